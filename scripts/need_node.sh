#!/bin/sh
# Building the front end needs Node.js; say so before a tool fails in its own words.
set -eu

lowest=20
version=$(node --version 2>/dev/null || true)
major=${version#v}
major=${major%%.*}
if [ "${major:-0}" -lt "$lowest" ]; then
    echo "error: Node.js $lowest or newer is needed to build the front end; found ${version:-none}." >&2
    echo "Install it from your distribution (Debian 13, Ubuntu 25.04: apt install nodejs) or with conda (conda install nodejs)." >&2
    exit 1
fi
