#!/bin/sh
# Mirrors $FOLDER into the built-in knowledge base and runs a search for $QUERY, or for a sample question.
set -eu

kbsync="$VENV/bin/kbsync"
case $FOLDER in
"~" | "~/"*) FOLDER=$HOME${FOLDER#"~"} ;; # some shells don't expand ~ after FOLDER=
esac

# Prints a word quoted for a shell.
quoted() {
    case $1 in
    *[!A-Za-z0-9_./-]* | "") printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")" ;;
    *) printf %s "$1" ;;
    esac
}

show() {
    printf '\n$' >&2
    for word in "$@"; do printf ' %s' "$(quoted "$word")" >&2; done
    echo >&2
    "$@"
}

code=0
show "$kbsync" --once --folder "$FOLDER" || code=$?
# 1: some documents failed, and kbsync has named them; the others are searchable.
[ "$code" -le 1 ] || exit "$code"

if [ -z "${QUERY:-}" ]; then
    QUERY=$("$VENV/bin/python" tools/sample_query.py "$kbsync" "$FOLDER")
fi
show "$kbsync" search "$QUERY" -k 3 --folder "$FOLDER"
folder=$(quoted "$FOLDER")
program=$(quoted "$kbsync")
printf '\nYour turn:\n  %s search "…" --folder %s\n' "$program" "$folder" >&2
printf '  %s --folder %s     # keeps watching; Ctrl-C ends it\n' "$program" "$folder" >&2
