#!/bin/sh
# The jlpm of .venv, whatever PATH the caller has (pre-commit, an editor).
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
export PATH
exec jlpm run -T "$@"
