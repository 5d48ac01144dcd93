#!/usr/bin/env bash
# config_install.sh - `make install` puts headers and mtask.pc where a build finds them.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

root=$PWD/$OUT/root
cat >"$OUT/use.c" <<'END'
#define MTASK_IMPLEMENTATION
#include <mtask.h>
int main(void) {
    return mtask_now() > 0 ? 0 : 1;
}
END
try "make install" make install PREFIX="$root"
flags=$(PKG_CONFIG_PATH=$root/lib/pkgconfig pkg-config --cflags --libs mtask)
# shellcheck disable=SC2086 # a list of words
try "pkg-config's flags compile" gcc -std=c11 -o "$OUT/use" "$OUT/use.c" $flags
version=$(PKG_CONFIG_PATH=$root/lib/pkgconfig pkg-config --modversion mtask)
try "pkg-config's version" grep -q "MTASK_VERSION_STRING *\"$version\"" mtask.h
try "make install DESTDIR" make install PREFIX=/usr DESTDIR="$root/dest"
try "the header lies below DESTDIR" cmp mtask.h "$root/dest/usr/include/mtask.h"
try "mtask.pc does not know DESTDIR" grep -qx prefix=/usr "$root/dest/usr/lib/pkgconfig/mtask.pc"
finish
