#!/bin/sh
# Create a virtual environment, or say in one sentence what the machine lacks for it.
#
# usage: make_venv.sh DIRECTORY [PYTHON]     without PYTHON, the one scripts/find_python.sh finds
set -eu

directory=$1
python=${2:-}
[ -n "$python" ] || python=$("$(dirname "$0")/find_python.sh" any)

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "error: $python is no Python 3.10 or newer." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "error: $python cannot create virtual environments (no ensurepip)." >&2
    echo "On Debian and Ubuntu: apt install python$version-venv" >&2
    exit 1
fi
echo "environment $directory: $("$python" --version)"
rm -rf "$directory"
"$python" -m venv "$directory"
