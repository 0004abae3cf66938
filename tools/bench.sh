#!/bin/sh
# Runs the benchmarks one after the other, half an hour in all; only those named in $ONLY where that is set.
set -eu

scratch=$(mktemp -d "${TMPDIR:-/tmp}/kbsync-bench.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

for source in benchmarks/*.py; do
    name=$(basename "$source" .py)
    case " ${ONLY:-$name} " in *" $name "*) ;; *) continue ;; esac
    case $name in
    tree | zhipu_rig | canned | bodies | cage | limits_rig) continue ;; # what the others measure with
    scan | whole_pass)
        if [ ! -e "$scratch/tree.built" ]; then
            "$VENV/bin/python" benchmarks/tree.py "$scratch/tree" 100000 1000
            touch "$scratch/tree.built" # scan builds it itself where this is missing
        fi
        set -- "$scratch/tree"
        ;;
    xquad) # its questions are not part of this project
        if [ -z "${KBSYNC_XQUAD:-}" ]; then
            echo "-- xquad: left out; set KBSYNC_XQUAD to the folder of its questions"
            continue
        fi
        set -- ;;
    *) set -- ;;
    esac
    echo "-- $name"
    PYTHONPATH=. "$VENV/bin/python" "$source" "$@" # the tests' browser serves one of them
done
