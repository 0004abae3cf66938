#!/bin/sh
# Runs the benchmarks one after the other, which takes half an hour. $ONLY selects some of them by name.
set -eu

scratch=$(mktemp -d "${TMPDIR:-/tmp}/kbsync-bench.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

for source in benchmarks/*.py; do
    name=$(basename "$source" .py)
    case " ${ONLY:-$name} " in *" $name "*) ;; *) continue ;; esac
    case $name in
    tree | zhipu_rig | canned | bodies | cage | corpus | limits_rig) continue ;; # imported by the others
    scan | whole_pass)
        if [ ! -e "$scratch/tree.built" ]; then
            "$VENV/bin/python" benchmarks/tree.py "$scratch/tree" 100000 1000
            touch "$scratch/tree.built" # without this file, scan builds the tree itself
        fi
        set -- "$scratch/tree"
        ;;
    xquad | big_log) # their questions aren't part of this project
        if [ -z "${KBSYNC_XQUAD:-}" ]; then
            echo "-- $name: left out; set KBSYNC_XQUAD to the folder of the questions"
            continue
        fi
        set -- ;;
    scale | million)
        echo "-- $name: left out; run it by hand, with a corpus"
        continue
        ;;
    *) set -- ;;
    esac
    echo "-- $name"
    PYTHONPATH=. "$VENV/bin/python" "$source" "$@" # one of them uses the tests' browser
done
