#!/bin/sh
# The Galata tests drive a Chromium of the machine: nothing is downloaded by the test tool.
#
# Exit status: 0 there is one; 77 there is none, and the tests are left out with this message;
# 1 there is none on CI, where nothing is left out.
set -eu

chromium=${CHROMIUM:-/usr/bin/chromium}
if command -v "$chromium" >/dev/null 2>&1; then
    "$chromium" --version --no-sandbox 2>/dev/null || true
    exit 0
fi
if [ "${CI:-}" = true ]; then
    echo "error: no Chromium at $chromium, and CI leaves out no test." >&2
    exit 1
fi
echo "SKIPPED: the browser tests, because there is no Chromium at $chromium." >&2
echo "Install it (Debian: apt install chromium) or name it: make test-ui CHROMIUM=/path/to/chromium" >&2
exit 77
