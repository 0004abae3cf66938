#!/bin/sh
# Mirrors $FOLDER into the embedded knowledge base and runs a sample search: $QUERY, or one made up.
set -eu

kbsync="$VENV/bin/kbsync"
case $FOLDER in
"~" | "~/"*) FOLDER=$HOME${FOLDER#"~"} ;; # not every shell expands it after FOLDER=
esac

show() {
    printf '\n$ %s\n' "$*" >&2
    "$@"
}

code=0
show "$kbsync" --once --folder "$FOLDER" || code=$?
# 1: some documents failed, which were named; the others can be searched.
[ "$code" -le 1 ] || exit "$code"

if [ -z "${QUERY:-}" ]; then
    QUERY=$("$VENV/bin/python" tools/sample_query.py "$kbsync" "$FOLDER")
fi
show "$kbsync" search "$QUERY" -k 3 --folder "$FOLDER"
printf '\nYour turn:\n  %s search "…" --folder %s\n' "$kbsync" "$FOLDER" >&2
printf '  %s --folder %s     # keeps watching; Ctrl-C ends it\n' "$kbsync" "$FOLDER" >&2
