"""What a mirror's config says of its target, as this target takes it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from kbsync.core.model import Limits
from kbsync.errors import UsageError
from kbsync.targets.http.remote import RemoteSettings
from kbsync.targets.zhipu.formats import EXTENSIONS

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ZhipuSettings(RemoteSettings):
    """`base_url` ends in `/api`. With `auth` `jwt` a key that signs no tokens is a `UsageError`, too."""

    knowledge_id: str
    max_bytes: int = 100_000_000
    auth: str = "key"

    def __post_init__(self) -> None:
        RemoteSettings.__post_init__(self)  # super() knows another class where there are slots
        if self.auth == "jwt" and not signs(self.api_key):
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
            reembed_grace=self.grace,
            unhurried=self.unhurried,
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


def signs(key: str) -> bool:
    """It is `id.secret`."""
    key_id, point, secret = key.partition(".")
    return bool(key_id and point and secret and "." not in secret)


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError as error:
        raise UsageError(f"base_url: {error}; write it as https://host/api") from error
