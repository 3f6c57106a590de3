#!/usr/bin/env bash
# Makes the Python environment of the tests once, in the user's cache folder, and prints nothing but
# progress. The folder's name holds a digest of requirements.txt: a changed file makes a new one.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
digest=$(cksum <"$here/requirements.txt" | cut -d' ' -f1)
venv=${XDG_CACHE_HOME:-$HOME/.cache}/stompbox/python-$digest

if [ "${1:-}" = path ]; then
    echo "$venv"
elif [ -e "$venv/ready" ]; then
    echo "the Python environment is there"
elif ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    echo "Python 3 with its venv module is missing; on Debian: sudo apt-get install python3-venv" >&2
    exit 1
else
    # Two runs at once make it one after the other.
    mkdir -p "$(dirname "$venv")"
    exec 9>"$venv.lock"
    flock 9
    if [ ! -e "$venv/ready" ]; then
        python3 -m venv --clear "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$here/requirements.txt"
        touch "$venv/ready"
    fi
fi
