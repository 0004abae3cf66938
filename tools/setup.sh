#!/bin/sh
# Creates the virtual environment $VENV, if it doesn't exist, and installs kbsync into it. `setup.sh .` installs only
# kbsync, `setup.sh . standin` also the stand-in servers, `setup.sh '.[dev]'` also everything for checks and tests.
set -eu

# Settings for other Pythons: no virtual environment works with them.
unset PYTHONHOME
export PIP_USER=0

case "$*" in
*dev*) set -- "$@" standin ;;
esac
fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))'

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Try each: a name on PATH may be a wrapper that only reports that this version isn't installed.
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        "$PYTHON" -c "$fits" 2>/dev/null && command -v "$PYTHON" && return
        fail "PYTHON=$PYTHON is no Python 3.11 to 3.14; name another one, or leave PYTHON out."
    fi
    for name in python3.14 python3.13 python3.12 python3.11 python3 python; do
        "$name" -c "$fits" 2>/dev/null && command -v "$name" && return
    done
    return 1
}

make_with_uv() {
    python=$(find_python) || python=3.13 # uv can download it
    uv venv --quiet --python "$python" "$VENV"
}

make_with_python() {
    python=$(find_python) || fail \
        "kbsync needs Python 3.11 or newer; this machine has $(python3 --version 2>/dev/null || echo none)." \
        "Install one (Debian, Ubuntu: sudo apt install python3 python3-venv) and pass it: make PYTHON=python3.12 …"
    if "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        "$python" -m venv "$VENV"
    elif "$python" -c 'import venv, pip' 2>/dev/null; then
        "$python" -m venv --without-pip "$VENV" # a pip outside of the environment can install into it
    else
        fail "$python can't create virtual environments." \
            "Debian, Ubuntu: sudo apt install python3-venv; then try again."
    fi
}

install_with_uv() {
    # Compile everything but pip, which is there for those who want to install more.
    uv pip install --quiet --compile-bytecode --python "$VENV/bin/python" "$@" &&
        uv pip install --quiet --python "$VENV/bin/python" pip
}

install_with_pip() {
    if "$VENV/bin/python" -c 'import pip' 2>/dev/null; then
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    else
        python=$(find_python) && "$python" -m pip --python "$VENV/bin/python" \
            install --quiet --disable-pip-version-check "$@"
    fi
}

has_uv() { command -v uv >/dev/null 2>&1; }

# uv installs in a third of the time that pip needs. If it is missing, download it (18 MB) for this run only.
download_uv() {
    python=$(find_python 2>/dev/null) && uv_folder=$(mktemp -d 2>/dev/null) || return 0
    trap 'rm -rf "$uv_folder"' EXIT
    trap 'exit 130' INT TERM
    "$python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-compile \
        --target "$uv_folder" uv >/dev/null 2>&1 || return 0
    PATH="$uv_folder/bin:$PATH"
    # uv doesn't read the settings of pip.
    index=$("$python" -m pip config list | sed -n "s/^.*\.index-url='\(.*\)'$/\1/p" | head -n 1)
    export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}" UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"
}

echo "installing kbsync into $VENV (about 54 MB, more for the tests; once) …" >&2
has_uv || download_uv
if [ ! -x "$VENV/bin/python" ]; then
    if ! has_uv || ! make_with_uv; then make_with_python; fi
fi
"$VENV/bin/python" -c "$fits" 2>/dev/null ||
    fail "$VENV has no Python 3.11 to 3.14; remove it (rm -r $VENV) and try again."

what=$*
# Each path becomes `--editable PATH`.
for path in "$@"; do
    set -- "$@" --editable "$path"
    shift
done
if ! has_uv || ! install_with_uv "$@"; then
    install_with_pip "$@" # also if uv can't, for example because only pip is configured for a proxy
fi
touch "$VENV/.kbsync"
case $what in *standin*) touch "$VENV/.kbsync-standin" ;; esac
case $what in *dev*) touch "$VENV/.kbsync-dev" ;; esac
