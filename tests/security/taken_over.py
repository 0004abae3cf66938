"""A compromised parser process, which runs the document that it gets as a program."""

from __future__ import annotations

import json
import sys

sys.path.clear()
sys.path.extend(json.loads(sys.argv[4]))

from kbsync.index.document import Parsed
from kbsync.index.fence import child

documents: list[bytes] = []


def obey(document: bytes) -> Parsed:
    documents.append(document)
    lines: list[str] = []
    namespace = {"documents": documents, "say": lambda *words: lines.append(" ".join(map(str, words)))}
    exec(document.decode(), namespace)
    return Parsed("\n".join(lines) or "nothing")


if __name__ == "__main__":
    child.main(lambda: {"html": obey})
