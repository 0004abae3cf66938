#!/bin/sh
# Runs checks by name and stops at the first that fails: check.sh quick lint size rest
set -eu

# Tests create and delete many small files, so keep them in memory if there is room.
roomy() { [ -w "$1" ] && [ "$(df --output=avail "$1" | tail -n 1)" -gt 1000000 ]; }
if [ -z "${TMPDIR:-}" ] && roomy /dev/shm; then TMPDIR=/dev/shm; fi
scratch=$(mktemp -d "${TMPDIR:-/tmp}/kbsync-check.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
# Otherwise every program that a test starts would compile all of kbsync again.
unset PYTHONDONTWRITEBYTECODE

# The checks keep their caches in the checkout, unless it is read-only.
imports_cache=
if [ ! -w . ]; then
    export RUFF_CACHE_DIR="$scratch/ruff" MYPY_CACHE_DIR="$scratch/mypy" PYTHONPYCACHEPREFIX="$scratch/bytecode"
    export HYPOTHESIS_STORAGE_DIRECTORY="$scratch/hypothesis" PYTEST_ADDOPTS="-p no:cacheprovider ${PYTEST_ADDOPTS:-}"
    imports_cache=--no-cache
fi

# Runs a check; prints one line if it passes, its output only if it fails.
quietly() {
    name=$1
    shift
    if "$@" >"$scratch/check" 2>&1 </dev/null; then
        printf '%-14s ok\n' "$name"
    else
        cat "$scratch/check"
        fail "$name"
    fi
}

# Runs a check and prints its output, which has figures worth seeing.
openly() {
    name=$1
    shift
    "$@" </dev/null || fail "$name"
}

fail() {
    printf '%-14s FAILED\n' "$1" >&2
    exit 1
}

lint() {
    quietly "ruff check" "$VENV/bin/ruff" check --quiet .
    quietly "ruff format" "$VENV/bin/ruff" format --check .
    quietly "mypy" "$VENV/bin/mypy"
    quietly "lint-imports" "$VENV/bin/lint-imports" $imports_cache
}

size() { openly "size" "$VENV/bin/python" tools/check_size.py; }

# pytest rewrites the assertions of each test module once and caches the result, but processes that start at the
# same time would each rewrite all of them.
rewrite_assertions() {
    "$VENV/bin/python" -m pytest --collect-only >/dev/null 2>&1 || true # the tests report any error
}

# A separate basetemp, because leftovers of other runs or users could cause failures. Two more processes than cores,
# because many tests wait for a daemon.
tests() {
    cores=$(nproc)
    rewrite_assertions
    workers=$((cores < 7 ? cores + 2 : 8))
    openly "pytest" "$VENV/bin/python" -m pytest -n "$workers" --dist worksteal --basetemp "$scratch/tests" "$@"
}

# Runs lint and the quick tests in parallel; prints lint's output last.
quick() {
    (lint) >"$scratch/lint" 2>&1 &
    linting=$!
    code=0
    (tests) || code=$?
    wait "$linting" || code=$?
    cat "$scratch/lint"
    return "$code"
}

# Runs the tests that `quick` skipped when it ran with the same KBSYNC_SEED.
rest() {
    [ -n "${KBSYNC_SEED:-}" ] || {
        echo "set KBSYNC_SEED to the seed that make test printed" >&2
        exit 2
    }
    KBSYNC_SHARE=rest tests
}

for check in "$@"; do
    "$check"
done
