"""Callbacks: the vendor tells an address that a document was vectorized, or that it failed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from kbsync_standin.messages import Letter

FORMS = ("never", "twice", "other", "status", "late", "slow", "malformed")
EVENT = "knowledge_construction"
_OTHER = "1000000000000000000"


@dataclass(frozen=True, slots=True)
class Callback:
    """Where a document's end is told, and with which headers."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Calling:
    """How it is told: `form` "" as documented. `seconds`: how late, or how slowly."""

    form: str = ""
    seconds: float = 0.0


PUNCTUAL = Calling()


def letters(callback: Callback, ident: str, stat: int, at: float, calling: Calling) -> list[Letter]:
    """What is sent about the document `ident`, whose status is `stat` from `at` on."""
    about = _OTHER if calling.form == "other" else ident
    stat = {1: 2, 2: 1}.get(stat, stat) if calling.form == "status" else stat
    event = {"status": stat, "msg": "向量化完成" if stat == 1 else "向量化失败", "documentId": about}
    body = json.dumps({"eventId": EVENT, "event": event}, ensure_ascii=False).encode()
    body = body[: len(body) // 2] if calling.form == "malformed" else body
    late = calling.seconds if calling.form == "late" else 0.0
    slow = calling.seconds if calling.form == "slow" else 0.0
    one = Letter(at + late, ident, callback.url, body, callback.headers, slow)
    times = {"never": 0, "twice": 2}.get(calling.form, 1)
    return [one] * times
