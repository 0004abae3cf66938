"""What every remote target has: an address, and how documents are waited for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol
from urllib.parse import SplitResult, urlsplit

from kbsync.config.kinds import (
    About,
    Confidential,
    Duration,
    Location,
    RefusedValue,
    ValueKind,
    Whereabouts,
    Whole,
    value_shown,
)
from kbsync.config.secret import Secret

_PORTS = {"http": 80, "https": 443}
_PRIVATE_DOMAINS = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


class BaseUrl(ValueKind):
    """What comes before the paths of an API: http or https, host, perhaps a port and a path."""

    def read(self, value: object, where: Whereabouts) -> str:
        """The address in its canonical form; no message repeats it, a key may stand in it by mistake."""
        if not isinstance(value, str):
            raise RefusedValue(f"{value_shown(value)} is not a text; allowed: {_ALLOWED}")
        parts = _parts(value)
        if parts.username is not None or parts.password is not None:
            raise RefusedValue(
                "has a user or password in it; write it without, keys have settings of their own"
            )
        if "?" in value or "#" in value:
            raise RefusedValue("has a ? or # in it; write what comes before")
        return canonical(value)

    def json(self) -> dict[str, Any]:
        """A string."""
        return {"type": "string", "pattern": r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"}


_ALLOWED = "an address that begins with https:// or http://, such as https://open.bigmodel.cn/api"


def _parts(url: str) -> SplitResult:
    """Raises Refused for what is no address of the web."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port beyond 65535, a bracket that is not closed
        is_address = False
    if not is_address or re.search(r"[\s\x00-\x1f\x7f\\]", url):
        raise RefusedValue(f"the value is not taken; allowed: {_ALLOWED}")
    return parts


def canonical(url: str) -> str:
    """`url` in its one form: lower-case scheme and host, no default port, no slash at the end."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


LINKS = ("url", "webloc", "desktop")
"""Extensions of files that hold the address of a page."""


def is_in_the_clear(url: str) -> bool:
    """What is sent to `url` can be read on its way: it is not https, and leaves the private network."""
    parts = urlsplit(url)
    return parts.scheme != "https" and not _is_private(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """A name or an address (without brackets) that leads to this machine wherever it is used."""
    import ipaddress

    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_private(host: str) -> bool:
    """A loopback or private address, or a name that only a private network knows."""
    import ipaddress

    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_global
    except ValueError:
        return "." not in host or host.endswith(_PRIVATE_DOMAINS)


class BaseId(ValueKind):
    """The id of a knowledge base; each service has an `example` of its own."""

    example: ClassVar[str]

    def read(self, value: object, where: Whereabouts) -> str:
        """The id."""
        if not isinstance(value, str) or re.fullmatch(_AN_ID, value) is None:
            raise RefusedValue(
                f'{value_shown(value)} is not taken; allowed: an id in quotes, such as "{self.example}"'
            )
        return str(value)

    def json(self) -> dict[str, Any]:
        """A string."""
        return {"type": "string", "pattern": f"^{_AN_ID}$", "examples": [self.example]}


_AN_ID = "[A-Za-z0-9_-]{1,64}"

KEY_ALLOWED = r"[\x21-\x7e]+", "the key alone, without `Bearer` or spaces"
"""What a key may be, and how that is told."""

CONCURRENCY = Whole("requests in flight", least=1, most=64)
PER_MINUTE = Whole("requests in a minute at most; 0: no limit of ours")
UPLOAD_SPEED = Whole("speed of uploads at most; 0: no limit of ours")
WAITING = About("how long the target's own work on a document is waited for")
CA_FILE = Location("certificates to trust besides the usual ones, PEM")
PROXY = Confidential(
    "the proxy to go through; default: HTTPS_PROXY and the like",
    r"https?://[^\s/?#]+/?",
    "an address such as http://proxy:3128 or http://user:password@proxy:3128",
)
"""Settings that several targets or services have, described once."""


@dataclass(frozen=True, slots=True)
class VectorizationConfig:
    """How a remote target's own work on a document is waited for."""

    poll_first: Annotated[
        float, Duration("first look at a document, this long after it was sent …", least=0.01, most=3600.0)
    ] = 1.0
    poll_longest: Annotated[
        float, Duration("… and then less and less often, up to this", least=0.01, most=3600.0)
    ] = 15.0
    give_up: Annotated[
        float, Duration("a document that is not searchable by then has failed", least=0.1, most=7 * 86400.0)
    ] = 1800.0
    reembed_tries: Annotated[
        int, Whole("how often a failed document is tried again before it is quarantined", most=10)
    ] = 3
    absent_after: Annotated[
        float, Duration("how long a lost upload is looked for before it is sent again", most=86400.0)
    ] = 15.0


class RemoteTargetConfig(Protocol):
    """What the config of every target at a service has, whatever else its own needs."""

    @property
    def base_url(self) -> str:
        """The API's address."""

    @property
    def api_key(self) -> Secret:
        """What is sent with every request."""

    @property
    def concurrency(self) -> int:
        """`CONCURRENCY`."""

    @property
    def requests_per_minute(self) -> int:
        """`PER_MINUTE`."""

    @property
    def upload_bytes_per_second(self) -> int:
        """`UPLOAD_SPEED`."""

    @property
    def vectorization(self) -> VectorizationConfig:
        """`WAITING`."""

    @property
    def ca_file(self) -> Path | None:
        """`CA_FILE`."""

    @property
    def proxy(self) -> Secret | None:
        """`PROXY`."""
