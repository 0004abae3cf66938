"""A complete HTTP answer, and how one without a usable body is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable, Unsure

LONGEST_WISH = 300.0
"""Seconds: a longer Retry-After counts as this."""

EXCERPT = 300
"""Characters of an answer that are kept for messages."""

_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")

_TITLE = re.compile(r"<title>\s*([^<]{1,100})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that arrived in full. `op`: what was asked, such as `upload`. `host`: of whom.

    `headers` have lower-case names. `body` is the parsed JSON whatever the content type says, None where
    it is none. `text` is the printable beginning of the body. `sent_at`: seconds since the epoch.
    """

    op: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: Any | None = field(repr=False)
    text: str = field(repr=False)
    sent_at: float
    host: str = "the target"

    @property
    def retry_after(self) -> float | None:
        """Seconds the target wants to be left alone, 0 to `LONGEST_WISH`; None where it says nothing clear.

        RFC 9110, 10.2.3: seconds or a date. A date is read against the answer's own, where it has one.
        """
        wish = self.headers.get("retry-after", "").strip()
        if _SECONDS.fullmatch(wish):
            return min(float(wish), LONGEST_WISH)
        until = _date(wish)
        if until is None:
            return None
        return min(max(0.0, until - (self.sent_at if self.date is None else self.date)), LONGEST_WISH)

    @property
    def date(self) -> float | None:
        """When it was made by the target's clock, to the second; None where it does not say."""
        return _date(self.headers.get("date", ""))

    @property
    def is_page(self) -> bool:
        """A page for people where JSON is due, as proxies and maintenance signs give."""
        return self.body is None and self.text.lstrip().startswith("<")

    @property
    def excerpt(self) -> str:
        """What a message quotes of the body; of a page only its title."""
        if not self.is_page:
            return self.text
        title = _TITLE.search(self.text)
        return f"a web page, {' '.join(title[1].split())}" if title else "a web page"


Judge = Callable[[Answer], TargetError | None]
"""A vendor's reading of an answer: None is success; what cannot be told is `Unsure`."""


def by_status(answer: Answer, *, of_item: bool = True) -> TargetError | None:
    """The reading of an answer that says nothing but its status. None: 2xx with JSON.

    `of_item`: it was asked for the sake of one document, which a 403 then blames.
    """
    status, code = answer.status, str(answer.status)
    if 200 <= status < 300:
        return None if answer.body is not None else Unsure(_no_json(answer), code=code)
    said = _said(answer)
    match status:
        case 401 if not answer.is_page:
            return Halted("credentials", f"{said}; check the API key", code=code)
        case 403 if of_item:
            # firewalls refuse a text that looks like an attack to them, and let the next one through
            return Rejected(said, code=code, may_pass=True)
        case 401 | 403:
            return Unavailable(f"{said}; a firewall or gateway on the way may say so", code=code)
        case 404 | 405 | 501:
            return NotOffered(said, code=code)
        case 407:
            return Unavailable(f"{said}; the proxy wants a name and password", code=code)
        case 408 | 425 | 429:
            return Unavailable(said, code=code, retry_after=answer.retry_after)
        case 413:
            return Rejected(f"{said}: the document is too large", code=code)
    return _by_class(answer, said, code)


def _by_class(answer: Answer, said: str, code: str) -> TargetError:
    if 300 <= answer.status < 400:
        return Unsure(_elsewhere(answer), code=code)  # 303 says that the work was done, the others do not say
    if 400 <= answer.status < 500:
        return Rejected(said, code=code)
    return Unsure(said, code=code)


def _said(answer: Answer) -> str:
    excerpt = f": {answer.excerpt}" if answer.text else ""
    return f"{answer.op}: {answer.host} answered {answer.status}{excerpt}"


def _no_json(answer: Answer) -> str:
    what = f"something that is no JSON: {answer.excerpt}" if answer.text else "nothing"
    return f"{answer.op}: {answer.host} answered {answer.status} with {what}"


def _elsewhere(answer: Answer) -> str:
    """The query is left out: it may be a secret, and no base_url has one."""
    address = re.split(r"[?#]", answer.headers.get("location", ""))[0]
    where = f"to {_without_user(address)}" if address else "without an address"
    return (
        f"{answer.op}: {answer.host} redirects ({answer.status}) {where}; "
        "set base_url to the address that answers itself"
    )


def _without_user(address: str) -> str:
    return re.sub(r"^([a-zA-Z][a-zA-Z0-9+.-]*:)?//[^/]*@", r"\1//", address)


def _date(text: str) -> float | None:
    try:
        said = parsedate_to_datetime(text)
        return (said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None
