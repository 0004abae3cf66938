"""Runs one round of one exercise in this process; its last line of output is the tally as JSON.

Usage: python -m tests.torture.round NAME SEED
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import tempfile
import traceback
from dataclasses import asdict
from pathlib import Path

from kbsync import logs
from tests.torture.exercise import Exercise, PromiseBroken, Tally

MODULES = ("crash", "databases", "machine", "life", "soak", "faults", "audits", "fuzz", "resources")
OFTEN = {"machine": 12}
"""How many rounds of an exercise run for each round of the others: its rounds are short."""


def exercises() -> dict[str, Exercise]:
    """Return the exercises by name, in order. Raises `AssertionError` for a duplicate name."""
    results: dict[str, Exercise] = {}
    for name in MODULES:
        of_module = importlib.import_module(f"tests.torture.{name}").EXERCISES
        assert not results.keys() & of_module.keys(), (
            f"{name} has an exercise that another module has as well"
        )
        results |= of_module
    return results


def play(exercise: Exercise, seed: int) -> tuple[Tally, str]:
    """Return the tally, and the failure."""
    scratch = Path(tempfile.mkdtemp(prefix="kbsync-torture-"))
    try:
        tally = exercise(seed, scratch)
        return tally, "" if not tally.broken else "the tally itself tells of broken promises"
    except PromiseBroken as error:
        return error.tally, traceback.format_exc()
    except Exception:
        return Tally(), traceback.format_exc()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def main(name: str, seed: str) -> int:
    logs.configure(style="json", level="error")
    tally, trouble = play(exercises()[name], int(seed))
    print()
    print(json.dumps({"tally": asdict(tally), "trouble": trouble}))
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
