"""Prints a question to try on a freshly mirrored folder: `python tools/sample_query.py KBSYNC FOLDER`.

For kbsync's example it prints a fixed question, for other folders the words of a document's name.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "handbook"
QUESTION = "how do I get an old version of a document back"


def words_of(path: str) -> str:
    """Turn `guides/Reset-Password_v2.md` into `Reset Password v2`."""
    return " ".join(re.findall(r"\w+", PurePosixPath(path).stem))


def sample(kbsync: str, folder: Path) -> str:
    """Return a question that the documents of `folder` should answer."""
    if folder.resolve() == EXAMPLE:
        return QUESTION
    command = [kbsync, "status", "--json", "--documents", "--folder", str(folder)]
    status = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    paths = [item["path"] for item in status["mirrors"][0]["items"] if item["state"] == "ready"]
    named = sorted((words_of(path) for path in paths), key=lambda words: (words.count(" ") < 1, len(words)))
    return next(filter(None, named), QUESTION)


if __name__ == "__main__":
    print(sample(sys.argv[1], Path(sys.argv[2])))
