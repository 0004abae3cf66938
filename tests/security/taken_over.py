"""A parser process that was taken over: what it is sent as a document it runs as a program."""

from __future__ import annotations

import json
import sys

sys.path.clear()
sys.path.extend(json.loads(sys.argv[4]))

from kbsync.index.document import Parsed
from kbsync.index.fence import child


def obey(document: bytes) -> Parsed:
    said: list[str] = []
    exec(document.decode(), {"say": lambda *words: said.append(" ".join(map(str, words)))})
    return Parsed("\n".join(said) or "nothing")


if __name__ == "__main__":
    child.main(lambda: {"html": obey})
