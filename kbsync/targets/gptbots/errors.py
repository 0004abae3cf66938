"""The vendor's codes as errors: the one place where they are translated.

There is no envelope on success; a failure is `{"code": 40000, "message": "…"}` under any HTTP status.
"""

from __future__ import annotations

import enum
import re
from typing import Any

from kbsync.core.text import number_in, printable
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.gptbots.config import EXTENSIONS
from kbsync.targets.http.errors import HttpAnswer, Judge, by_status

TOO_MANY = "40332"

_SUCCESS = ("", "0")
_BUSY = ("408", "429")
_NO_CALL = (404, 405, 501)
_BOT_GONE, _WRONG_KEY, _INVALID = "20059", "40127", "40000"
_MONEY = re.compile(r"insufficient|quota|balance|credits?\b|余额|额度", re.IGNORECASE)
_QUOTES, _END = "\"'“”‘’《》", rf"\.(?:{'|'.join(sorted(EXTENSIONS))})(?![a-z0-9])"
_FILE = re.compile(rf"[{_QUOTES}][^{_QUOTES}]*{_END}|[^\s{_QUOTES}]+{_END}", re.IGNORECASE)
"""What looks like a file that can be sent; its name may say anything."""

_LONGEST = 200


class GptbotsCall(enum.StrEnum):
    """What is asked for; the word used in metrics and messages."""

    BASE = "base"
    CREATE_BASE = "create-base"
    LIST = "list"
    ADD = "add"
    UPDATE = "update"
    STATUS = "status"
    DELETE = "delete"
    SEARCH = "search"
    RETRY = "retry"


_OF_DOCUMENTS = frozenset({GptbotsCall.ADD, GptbotsCall.UPDATE, GptbotsCall.DELETE})
"""Calls that a 403 may be said of without a word about the key."""


def judge_for(address: str, cure: str) -> Judge:
    """The reading of answers from `address`; `cure`: the command for when a person has acted."""

    def judge(answer: HttpAnswer) -> TargetError | None:
        error = _judged(answer, address)
        if isinstance(error, Halted):
            error.cure = cure
        return error

    return judge


def _judged(answer: HttpAnswer, address: str) -> TargetError | None:
    code, said = _told(answer.body)
    if code in _SUCCESS:
        return by_status(answer, of_item=answer.op in _OF_DOCUMENTS)
    words = printable(" ".join(said.split()))[:_LONGEST]
    after = f": {words}" if words else ""
    reason = f"{SENTENCES.get(code, 'the vendor refused the request')} (code {code}{after})"
    if code == _WRONG_KEY:
        advice = f"check api_key, and that base_url is its region: {address} was asked (sg, jp and th differ)"
        return Halted("credentials", f"{reason}; {advice}", code=code)
    if code == _BOT_GONE:
        advice = "its knowledge bases went with it; put a key of another bot and its base into the config"
        return Halted("knowledge-base-missing", f"{reason}; {advice}", code=code)
    if code in (_INVALID, TOO_MANY):
        return Rejected(reason, code=code)
    # No page tells it: HTTP, words and size of the code do, and what may have been done is unsure.
    if answer.status == 429 or code in _BUSY:
        return Unavailable(reason, code=code, retry_after=answer.retry_after)
    if _MONEY.search(_FILE.sub(" ", said)):
        return Halted("quota", f"{reason}; see to the account's credits in the vendor's console", code=code)
    number = number_in(code)
    if answer.status in _NO_CALL and number in (None, answer.status):
        return NotOffered(reason, code=str(answer.status))
    if answer.status == 403 and answer.op in _OF_DOCUMENTS:
        return Rejected(reason, code=code, may_pass=True)
    if answer.status in (401, 403):
        return Halted("credentials", f"{reason}; check api_key and its rights", code=code)
    # No number, an error of the server's or its gateway's, or 200: it is open what was done.
    is_open = number is None or number >= 50000 or 500 <= number < 600 or number == 200
    return (Unsure if answer.status >= 500 or is_open else Rejected)(reason, code=code)


SENTENCES = {
    _WRONG_KEY: "the API key is not known there",
    _BOT_GONE: "the bot was deleted",
    _INVALID: "the vendor finds something in it invalid",
    TOO_MANY: "too many documents in one request",
    "50000": "the vendor had an internal error",
    "408": "the request was not waited for",
    "429": "too many requests",
}
"""The codes that are known, each with what it means."""


def _told(body: Any) -> tuple[str, str]:
    """Code and message, flat or inside `error`; no code is ""."""
    if not isinstance(body, dict):
        return "", ""
    inner = body.get("error")
    source = inner if isinstance(inner, dict) else body
    code, said = source.get("code"), source.get("message")
    text = "" if code is None or isinstance(code, bool) else str(code).strip()
    if not text and isinstance(inner, dict | str):
        text = "error"
    return text, said if isinstance(said, str) else (inner if isinstance(inner, str) else "")
