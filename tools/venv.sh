#!/usr/bin/env bash
# Make the virtual environment and install the project into it, editable, with its development tools.
set -euo pipefail
python=$1 venv=$2

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "carp-sidecar needs Python 3.11 or later; '$python' is not: make PYTHON=/path/to/python3.11 ..." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    # Debian keeps ensurepip in a package of its own.
    package=python3-venv
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "'$python' has no venv module: install $package" >&2
        exit 1
    fi
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
fi
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then # none yet, or one that was interrupted
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
echo "installing the project and its tools into $venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e '.[dev]'
