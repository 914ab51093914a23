#!/bin/sh
# Makes .venv in the current directory from nothing, or brings it up to date, and touches nothing
# else: no user site, no global pip configuration, no other environment.
#
# PYTHON names the interpreter to use; without it the first of python3, python3.13, python3.12
# and python3.11 that is new enough is taken. Where none is there, or where Debian's venv package
# is missing, it stops with the line to type. PYTHON is ignored while a working .venv exists.
set -eu

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

stop() {
    echo "make-venv: $1. On Debian and Ubuntu type:" >&2
    echo "    $sudo""apt-get install $2" >&2
    exit 1
}

sudo="sudo "
if [ "$(id -u)" = 0 ]; then
    sudo=""
fi

# A half-made environment (interrupted, or its interpreter was upgraded away) is made again.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1 || ! new_enough .venv/bin/python; then
    python=$(find_python)
    if [ -z "$python" ]; then
        if [ -n "${PYTHON:-}" ]; then
            echo "make-venv: PYTHON=$PYTHON is not a Python 3.11 or later" >&2
            exit 1
        elif command -v python3 >/dev/null 2>&1; then
            stop "Python 3.11 or later is needed and python3 is older" "python3.11 python3.11-venv"
        fi
        stop "Python 3.11 or later is needed" "python3 python3-venv"
    fi
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        stop "$python has no venv module" "$(basename "$python")-venv"
    fi
    rm -rf .venv
    "$python" -m venv .venv
fi

# The build backend goes in first, so that the editable install needs no isolated, unpinned one.
pip_install() {
    .venv/bin/python -m pip install --quiet --constraint constraints.txt "$@"
}
pip_install hatchling editables
pip_install --no-build-isolation --editable '.[dev]'
