#!/usr/bin/env bash
# deps.sh [GOAL...] - installs the packages of tests/packages.txt that are missing; `make deps` runs
# it. With goals of make, none of which is a benchmark, it leaves out what only those need.
# As root, or where sudo asks for no password; otherwise it prints the command to type.
set -u
cd "$(dirname "$0")" || exit 1

case " $* " in
"  " | *" bench"*) of_bench='s/^bench://' ;;
*) of_bench='/^bench:/d' ;;
esac
wanted=$(sed "s/#.*//; $of_bench" packages.txt | xargs)
if ! command -v dpkg-query >/dev/null; then
    echo "deps: this is no Debian system; please see to it that you have the likes of:"
    echo "      $wanted"
    exit 0
fi

# Whether a package is installed (not merely known, or removed with its settings left).
installed() {
    local state
    state=$(dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null)
    [ "$state" = installed ]
}

missing=
for package in $wanted; do
    installed "$package" || missing="$missing $package"
done
missing=${missing# }
if [ -z "$missing" ]; then
    echo "deps: everything needed is installed"
    exit 0
fi

# shellcheck disable=SC2086 # a list of words
install="apt-get install -y --no-install-recommends $missing"
if [ "$(id -u)" = 0 ]; then
    as_root="env"
elif sudo -n true 2>/dev/null; then
    as_root="sudo env"
else
    echo "deps: missing: $missing"
    echo "deps: please type:"
    echo "      sudo apt-get update && sudo $install"
    exit 1
fi
echo "deps: installing $missing"
$as_root apt-get update && $as_root DEBIAN_FRONTEND=noninteractive $install
