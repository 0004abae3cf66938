#!/bin/sh
# Runs the exercises in tests/torture for $TIME, starting with $SEED. $ONLY selects some of them by name.
set -eu

# The exercises write a lot, so keep their files in memory if there is room.
room=$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }')
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ] && [ "${room:-0}" -gt 1000000 ]; then
    export TMPDIR=/dev/shm
fi
exec "$VENV/bin/python" -m tests.torture --time "${TIME:-10m}" --seed "${SEED:-1}" --only "${ONLY:-}"
