"""Runs every exercise in turn until the time is over, each round in a separate process.

Usage: python -m tests.torture [--time 10m] [--seed 1] [--only NAME[,NAME…]] [--rounds N] [--workers 2]

The first round of an exercise uses the seed itself, later ones seeds derived from it. Exits with 1 if a
promise was broken or a round hung.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence

from tests.torture.contest import Contest, as_table, rounds
from tests.torture.round import OFTEN, exercises

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Parse `90`, `90s`, `10m` or `1h`."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "s")
    return float(number) * UNITS[unit]


def main(words: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture")
    parser.add_argument("--time", type=seconds, default="10m", help="how long to begin rounds (10m)")
    parser.add_argument("--seed", type=int, default=1, help="everything follows from it (1)")
    parser.add_argument(
        "--only", default="", help="these exercises, or all that begin with a word, separated by commas"
    )
    parser.add_argument("--rounds", type=int, default=None, help="so many of each instead of a time")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (2)")
    parser.add_argument("--list", action="store_true", help="name the exercises and end")
    args = parser.parse_args(words)
    by_name = exercises()
    words = args.only.replace(",", " ").split()
    groups = {prefix: [name for name in by_name if name.startswith(f"{prefix}-")] for prefix in words}
    names = [name for given in words for name in ([given] if given in by_name else groups[given])] or list(
        by_name
    )
    if unknown := [given for given in words if given not in by_name and not groups[given]]:
        print(f"there is no exercise {', '.join(unknown)}; there are: {', '.join(by_name)}", file=sys.stderr)
        return 2
    if args.list:
        print("\n".join(names))
        return 0
    contest = Contest(args.workers)
    began = time.monotonic()
    until = began + args.time if args.rounds is None else None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    often = OFTEN if args.rounds is None else {}
    contest.play(rounds(names, args.seed, args.rounds, often=often), until)
    print(as_table(contest.scores, time.monotonic() - began))
    return 130 if contest.stopped else int(contest.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
