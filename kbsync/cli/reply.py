"""What came of a question, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kbsync.cli.finding import images_json
from kbsync.cli.inquiry import Reply
from kbsync.cli.paper import Paper, counted, tell
from kbsync.contract.answering import Answerer
from kbsync.contract.searching import Passage
from kbsync.core.printable import printable


def print_reply(paper: Paper, reply: Reply) -> None:
    """The files, below the text that was shown as it came."""
    sources = reply.sources
    if reply.by is None:
        return
    if sources is None or sources.hits is None:
        tell("the service does not tell which documents the answer is from")
        return
    if sources.hits:
        paper.line()
    numbers = reply.numbers
    for found in reply.cited:
        path = paper.link(paper.bold(printable(found.path)), found.absolute)
        places = ", ".join(dict.fromkeys(filter(None, map(_place, found.hit.passages))))
        paper.line(f"[{numbers[found.hit.remote_id]}] {path}" + (f"  {places}" if places else ""))
    others = len({hit.remote_id for hit in sources.hits} - {found.hit.remote_id for found in reply.cited})
    if others:
        verb = "is" if others == 1 else "are"
        tell(f"{counted(others, 'document')} that {verb} not of this mirror besides")


def _place(passage: Passage) -> str:
    if passage.page is not None:
        return f"p. {passage.page}"
    sheet = f"{printable(passage.sheet)}, " if passage.sheet else ""
    return "" if passage.line is None else f"{sheet}line {passage.line}"


def to_json(reply: Reply) -> dict[str, Any]:
    """One JSON document. `way` is null where nobody was asked."""
    sources, numbers = reply.sources, reply.numbers
    return {
        "question": reply.question,
        "answer": reply.text,
        "mirror": reply.mirror,
        **_way(reply.by),
        "request_id": sources.request_id if sources is not None else "",
        "usage": None if sources is None or sources.usage is None else dict(sources.usage),
        "has_old_document": None if sources is None else sources.has_old_document,
        "cites": sources is not None and sources.hits is not None,
        "citations": [
            {
                "number": numbers[found.hit.remote_id],
                "path": found.path,
                "abs_path": str(found.absolute),
                "document_id": found.hit.remote_id,
                "hide_positions": found.hit.hides_positions,
                "passages": [
                    {
                        "text": each.text,
                        "page": each.page,
                        "line": each.line,
                        "sheet_name": each.sheet,
                        "box": None if each.box is None else asdict(each.box),
                        **images_json(each.images),
                    }
                    for each in found.hit.passages
                ],
            }
            for found in reply.cited
        ],
        **({"error": reply.error} if reply.error else {}),
    }


def _way(by: Answerer | None) -> dict[str, str | None]:
    if by is None:
        return {"way": None}
    if by.model:
        return {"way": "passages", "model": by.model}
    return {"way": "application", "application": by.application}
