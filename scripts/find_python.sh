#!/bin/sh
# Print the path of a Python that really runs, or say what to install.
#
# usage: find_python.sh VERSION...     the first of these that is found ("3.10"), in this order
#        find_python.sh any            python3 if it is new enough, else the newest that is
#
# Looked for on PATH and among pyenv's versions; a shim that is on PATH but not enabled, and so
# does not start, is passed over.
set -eu

lowest=10

works() { # PATH: is this a usable Python >= 3.$lowest?
    "$1" -c "import sys; sys.exit(sys.version_info < (3, $lowest))" >/dev/null 2>&1
}

real() { # the interpreter itself: a shim would follow the caller's directory
    "$1" -c 'import os, sys; print(os.path.realpath(sys.executable))'
}

try() {
    if command -v "$1" >/dev/null 2>&1 && works "$1"; then
        real "$1"
        exit 0
    fi
}

if [ "${1:-any}" = any ]; then
    try python3
    set -- 3.13 3.12 3.11 3.10
fi

for version; do
    try "python$version"
    for prefix in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*; do
        try "$prefix/bin/python"
    done
done

found=$(python3 --version 2>/dev/null || echo "no python3")
echo "error: Python 3.$lowest or newer is needed (looked for: $*); here is $found." >&2
echo "Install one (Debian, Ubuntu: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12" >&2
exit 1
