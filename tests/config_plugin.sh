#!/usr/bin/env bash
# config_plugin.sh - a program and the plugins it loads have each a copy of mtask: with -rdynamic
# they share threads and tasks, without it locks, events, conditions and futures still work across.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

# plugins NAME COMPILER FLAGS APART [LINK]: builds program and plugin, and runs both ways of linking. APART
# says what plugins in a program without -rdynamic share: see plugin_main.c; nothing: not tried.
# LINK is for the plugins of a program without -rdynamic.
plugins() {
    local name=$1 cc=$2 apart=$4 dir=$OUT/$1
    mkdir -p "$dir"
    # shellcheck disable=SC2086 # lists of words
    {
        try "$name: plugin" $cc $WARN -pthread $3 -fPIC -shared -o "$dir/plugin.so" \
            tests/plugin.c || return
        try "$name: program" $cc $WARN -pthread $3 -c -o "$dir/main.o" tests/plugin_main.c || return
        try "$name: link with -rdynamic" \
            $cc -pthread $3 -rdynamic -o "$dir/together" "$dir/main.o" -ldl
        try "$name: link without" $cc -pthread $3 -o "$dir/apart" "$dir/main.o" -ldl
    }
    cp "$dir/plugin.so" "$dir/other.so"
    try "$name: together" "$dir/together" "$dir/plugin.so" together
    try "$name: together, two plugins" "$dir/together" "$dir/plugin.so" together "$dir/other.so"
    [ -n "$apart" ] || return
    # shellcheck disable=SC2086 # lists of words
    try "$name: plugin for a program without" $cc $WARN -pthread $3 -fPIC -shared ${5:-} \
        -o "$dir/plugin.so" tests/plugin.c && cp "$dir/plugin.so" "$dir/other.so"
    try "$name: apart" "$dir/apart" "$dir/plugin.so" "$apart"
    try "$name: apart, two plugins" "$dir/apart" "$dir/plugin.so" "$apart" "$dir/other.so"
}

asan="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
plugins gcc "gcc -std=c11" -O2 plugins
# clang's copies are not "unique", so nothing pins a plugin whose code the threads run at their end.
plugins clang "clang -std=c11" -O2 apart -Wl,-z,nodelete
# Where copies do not share the parking table, one cannot wake the other's threads.
plugins posix "gcc -std=c11" "-O2 -DMTASK_FORCE_POSIX" ""
plugins asan "gcc -std=c11" "$asan" plugins
finish
