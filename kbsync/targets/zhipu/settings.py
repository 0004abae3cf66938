"""What a mirror's config says of its target, as this target takes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from kbsync.core.model import Limits
from kbsync.errors import UsageError
from kbsync.targets.zhipu.formats import EXTENSIONS

_PORTS = {"http": 80, "https": 443}
_GRACE_POLLS, _LONGEST_GRACE = 10, 10.0
_UNHURRIED, _SHARE = 10.0, 0.1
"""Seconds between requests that nobody waits for, and their share of `requests_per_minute`."""


@dataclass(frozen=True, slots=True)
class ZhipuSettings:
    """`base_url` ends in `/api`; times in seconds, sizes in bytes, 0 for no limit of ours.

    `mirror` is named in the commands that cure; `is_first`: see `Endpoint`. Raises `UsageError` for a key
    that no header can carry, or that signs no tokens where `auth` is `jwt`.
    """

    base_url: str
    api_key: str = field(repr=False)
    knowledge_id: str
    concurrency: int = 4
    requests_per_minute: int = 0
    upload_bytes_per_second: int = 0
    poll_first: float = 1.0
    poll_longest: float = 15.0
    give_up: float = 1800.0
    reembed_tries: int = 3
    ca_file: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    max_bytes: int = 100_000_000
    auth: str = "key"
    mirror: str = ""
    is_first: bool = False

    def __post_init__(self) -> None:
        key = self.api_key
        if not (key and key.isascii() and key.isprintable() and " " not in key):
            raise UsageError("api_key is empty or has characters that no key has; copy it anew")
        if self.auth == "jwt" and not signs(key):
            raise UsageError(
                "api_key cannot sign tokens: it is not id.secret; copy it anew, or set auth: key"
            )

    @property
    def limits(self) -> Limits:
        """What the target takes."""
        return Limits(
            extensions=EXTENSIONS,
            max_bytes=self.max_bytes,
            batch=1,
            concurrency=self.concurrency,
            list_lag=1.0,
            reembed_tries=self.reembed_tries,
            give_up=self.give_up,
            poll_first=self.poll_first,
            poll_longest=self.poll_longest,
            ahead=self.concurrency // 2 + 1,
            reembed_grace=min(_LONGEST_GRACE, _GRACE_POLLS * self.poll_first),
            unhurried=_unhurried(self.requests_per_minute),
        )

    @property
    def address(self) -> str:
        """`base_url` in its one form: lower-case scheme and host, no default port, no slash at the end."""
        parts = urlsplit(self.base_url)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        port = _port(parts)
        shown = "" if port in (None, _PORTS.get(parts.scheme)) else f":{port}"
        return f"{parts.scheme}://{host}{shown}{parts.path.rstrip('/')}"

    def command(self, words: str) -> str:
        """A command line about this mirror: what to run once the cause of a halt is gone."""
        return f"kbsync {words} --mirror {self.mirror}" if self.mirror else f"kbsync {words}"


def signs(key: str) -> bool:
    """It is `id.secret`."""
    key_id, point, secret = key.partition(".")
    return bool(key_id and point and secret and "." not in secret)


def _unhurried(requests_per_minute: int) -> float:
    if requests_per_minute <= 0:
        return _UNHURRIED
    return max(_UNHURRIED, 60.0 / (_SHARE * requests_per_minute))


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError as error:
        raise UsageError(f"base_url: {error}; write it as https://host/api") from error
