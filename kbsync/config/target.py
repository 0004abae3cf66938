"""The config block of a target. Some keys are shared by all types, others only by service-backed types."""

from __future__ import annotations

import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar
from urllib.parse import SplitResult, urlsplit

from kbsync.config.kinds import (
    About,
    Choice,
    Duration,
    Location,
    RefusedValue,
    Text,
    ValueKind,
    Whole,
    invalid_value,
    write_duration,
)
from kbsync.config.problems import Conflict, Loc, format_path
from kbsync.config.secrets import Confidential, Secret
from kbsync.dataclass import dataclass

if TYPE_CHECKING:
    from kbsync.config.model import MirrorConfig
    from kbsync.contract.target import Target, TargetContext

_PORTS = {"http": 80, "https": 443}
_PRIVATE_DOMAINS = (".localhost", ".local", ".internal", ".lan", ".home.arpa")

IN_THE_CLEAR = (
    "does not use https, so the API key would be sent unencrypted; use https:// (http:// is only for hosts "
    "in your own network)"
)


class BaseUrl(ValueKind):
    """The base URL of an API: http or https, a host, and optionally a port and a path."""

    form: ClassVar = {"pattern": r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"}

    def read(self, value: object) -> str:
        """Return the URL in canonical form. No message quotes the URL, because someone may have pasted a key
        into it.
        """
        if not isinstance(value, str):
            raise invalid_value(value, _ALLOWED, "is not text")
        parts = _parts(value)
        if parts.username is not None or parts.password is not None:
            raise RefusedValue(
                "contains a username or password; remove it, because keys have their own settings"
            )
        if "?" in value or "#" in value:
            raise RefusedValue("has a ? or #; remove it and everything after it")
        return canonical(value)


_ALLOWED = "a URL that begins with https:// or http://, such as https://kb.example.org"


def _parts(url: str) -> SplitResult:
    """Split the URL. Raises `RefusedValue` for an invalid URL."""
    # No message quotes the URL, because someone may have pasted a key into it.
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port above 65535, an unclosed bracket
        is_address = False
    if not is_address or re.search(r"[\s\x00-\x1f\x7f\\]", url):
        raise RefusedValue(f"the value is not valid; allowed: {_ALLOWED}")
    return parts


def canonical(url: str) -> str:
    """Return `url` in canonical form: lowercase scheme and host, no default port, and no trailing slash."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def is_in_the_clear(url: str) -> bool:
    """Return whether other people could read requests to `url`.

    True if the URL isn't https and its host is outside the private network.
    """
    parts = urlsplit(url)
    if parts.scheme == "https":
        return False
    import ipaddress

    host = parts.hostname or ""
    # Plain http within a private network is common, because gateways there have no certificate.
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_global
    except ValueError:  # a host name: check whether it can exist only in a private network
        return "." in host and not host.endswith(_PRIVATE_DOMAINS)


def is_loopback(host: str) -> bool:
    """Return whether a host name or address (without brackets) always refers to the local machine."""
    import ipaddress

    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, eq=False)
class BaseId(ValueKind):
    """The id of a knowledge base. `example`: an id in the service's format."""

    example: str = ""

    def read(self, value: object) -> str:
        """Return the id."""
        if not isinstance(value, str) or re.fullmatch(_AN_ID, value) is None:
            raise invalid_value(value, f'an id in quotes, such as "{self.example}"')
        return str(value)

    def json(self) -> dict[str, Any]:
        """Return the JSON schema of a string."""
        return {"type": "string", "pattern": f"^{_AN_ID}$", "examples": [self.example]}


_AN_ID = "[A-Za-z0-9_-]{1,64}"

KEY_ALLOWED = r"[\x21-\x7e]+", "the key alone, without `Bearer` or spaces"
"""The characters that a key may contain, as a regular expression and in words."""


def chat_model(answers: str, otherwise: str) -> Text:
    """Return the `chat_model` key for services with chat completions.

    `answers`: what the model is used for. `otherwise`: what happens if the value is "".
    """
    return Text(
        f'the model that {answers}; `""`: {otherwise}',
        r"[!-~]*",
        'the name of a model, such as glm-4-flash, or ""',
        200,
    )


CONCURRENCY = Whole("requests in flight", least=1, most=64)
"""A setting that targets share with the services for embedding and ranking."""

REQUESTS_PER_MINUTE = Whole("maximum requests per minute; `0` means that kbsync sets no limit")
CA_FILE = Location("additional certificates to trust, in PEM format")
PROXY = Confidential(
    "the proxy; default: the one in `HTTPS_PROXY` or a similar variable",
    r"https?://[^\s/?#]+/?",
    "a URL such as http://proxy:3128 or http://user:password@proxy:3128",
)
"""A setting that targets share with the services for embedding and ranking."""


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """A service and how to connect to it."""

    base_url: str
    ca_file: Path | None = None
    proxy: Secret | None = None


@dataclass(frozen=True, slots=True)
class VectorizationConfig:
    """How to wait until a service has indexed a document."""

    poll_first: Annotated[
        float, Duration("time from an upload to the first poll", least=0.01, most=3600.0)
    ] = 1.0
    poll_longest: Annotated[
        float, Duration("maximum time between polls, as polling slows down", least=0.01, most=3600.0)
    ] = 15.0
    give_up: Annotated[
        float,
        Duration(
            "how long a document may take to become searchable before it counts as failed; the clock "
            "restarts whenever a document sent with it or before it finishes",
            least=0.1,
            most=7 * 86400.0,
        ),
    ] = 1800.0
    reembed_tries: Annotated[
        int, Whole("how many times to retry a failed document before quarantining it", most=10)
    ] = 3
    absent_after: Annotated[
        float, Duration("how long to look for a lost upload before resending it", most=86400.0)
    ] = 15.0


class TargetConfig(ABC):
    """The base class of target configs. Each folder in `kbsync/targets/` defines a subclass."""

    __slots__ = ()

    type: str
    shares_base: ClassVar[bool] = False
    """Whether several mirrors may share a knowledge base of this type."""

    searches_all: ClassVar[bool] = False
    """Whether a search in a target of this type also finds documents from other hosts."""

    keeps_index: ClassVar[bool] = False
    """Whether kbsync itself reads, splits and embeds the documents of this type."""

    unkept: ClassVar[Mapping[int, str]] = {}
    """The promises that kbsync can't keep with this service, by number, each with a sentence that says what
    happens instead."""

    document_settings: ClassVar[Mapping[str, ValueKind]] = {}
    """The settings allowed for this type in a rule under `documents`."""

    path: Path | None = None
    """The path on this machine that the config specifies for the target."""

    callback_base: str | None = None
    """The listener's public URL for the service; None if callbacks are off."""

    vectorization: VectorizationConfig = VectorizationConfig()
    """How to wait until the target has indexed a document."""

    @abstractmethod
    def base_key(self, mirror: str) -> tuple[str, ...]:
        """Return a key that two mirrors share if and only if they use the same knowledge base."""

    @abstractmethod
    def open(self, context: TargetContext) -> Target:
        """Open the target of a mirror. Raises `TargetError`, `UsageError` or `StateError` if it can't be
        opened.

        Heavy packages are imported only here, because all commands read configs but few open a target.
        """

    def open_for_plan(self, context: TargetContext) -> Target:
        """Open the target read-only.

        If the target doesn't exist yet, return an empty one, without creating anything.
        """
        return self.open(context)

    def better_vectors(self, base: Path) -> tuple[int, int] | None:
        """Return how many passages of the base in this folder have a vector from the better model, and the
        total number of passages.

        Return None if kbsync doesn't compute such vectors.
        """
        return None

    def conflicts(self, mirror: MirrorConfig, loc: Loc) -> Iterator[Conflict]:
        """Yield conflicts between settings that are valid individually. The block is at `loc`."""
        yield from ()

    @classmethod
    def rule_conflicts(cls, match: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield conflicts in a rule's settings for the documents that `match` selects.

        Each conflict is a key and a sentence.
        """
        yield from ()

    def folder(self, state_dir: Path, mirror: str) -> Path | None:
        """Return the folder of the knowledge base on this machine, or None if the base is on a service."""
        return None

    @property
    def services(self) -> Sequence[ServiceAddress]:
        """Return the services that a search of this target uses."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTargetConfig(TargetConfig):
    """The keys that all service-backed targets share. Sizes are in bytes; 0 means no limit."""

    type: Annotated[str, Choice("the type of the target")]
    base_url: Annotated[str, BaseUrl("the URL of the API")]
    api_key: Annotated[Secret, Confidential("the key of the account", *KEY_ALLOWED)]
    concurrency: Annotated[int, CONCURRENCY] = 4
    requests_per_minute: Annotated[int, REQUESTS_PER_MINUTE] = 0
    upload_bytes_per_second: Annotated[
        int, Whole("maximum upload speed; `0` means that kbsync sets no limit")
    ] = 0
    vectorization: Annotated[VectorizationConfig, About("how to wait for the service to index documents")] = (
        field(default_factory=VectorizationConfig)
    )
    ca_file: Annotated[Path | None, CA_FILE] = None
    proxy: Annotated[Secret | None, PROXY] = None

    opens: ClassVar[str]
    """The module and class of the target, as `package.module:Class`. The class must be a `ServiceTarget`."""

    shares_base: ClassVar[bool] = True
    """Whether mirrors may share a knowledge base; False if the target doesn't store their prefixes."""

    id_setting: ClassVar[str] = ""
    """The key that identifies the knowledge base; "" if the service has only one."""

    refused: ClassVar[Mapping[tuple[str, str], str]] = {}
    """The mirror settings (key and value) that this type doesn't support, each with the reason and the
    fix."""

    room_for_path: ClassVar[int] = 0
    """Minimum number of bytes that a prefix must leave for the path, if the service stores only a name."""

    @property
    def base_id(self) -> str:
        """The id of the knowledge base, or "" if the service has only one."""
        return getattr(self, self.id_setting) if self.id_setting else ""

    def base_key(self, mirror: str) -> tuple[str, ...]:
        """Return a key that two mirrors share if and only if they would use the same knowledge base."""
        base_id = (self.base_id,) if self.id_setting else ()
        return (self.type, canonical(self.base_url), *base_id)

    def open(self, context: TargetContext) -> Target:
        """Open the knowledge base on the service. This doesn't send a request yet."""
        from kbsync.targets.registry import open_at_service

        return open_at_service(self, context)

    @property
    def services(self) -> Sequence[ServiceAddress]:
        """Return the target's own service."""
        return (ServiceAddress(self.base_url, self.ca_file, self.proxy),)

    def conflicts(self, mirror: MirrorConfig, loc: Loc) -> Iterator[Conflict]:
        """Yield conflicts between settings. A type that overrides this must also yield these conflicts."""
        from kbsync.core.names import Naming  # imported late: few configs need it

        if is_in_the_clear(self.base_url):
            yield Conflict((*loc, "base_url"), IN_THE_CLEAR)
        yield from ca_file_conflicts(self.ca_file, loc)
        for (key, value), message in self.refused.items():
            if getattr(mirror, key) == value:
                yield Conflict((*loc[:-1], key), message)
        if self.room_for_path and Naming(mirror.prefix, mirror.names).short_of("x" * self.room_for_path):
            message = "leaves no room for paths in document names; choose a shorter prefix"
            yield Conflict((*loc[:-1], "prefix"), message)
        vectorization = self.vectorization
        if vectorization.poll_longest < vectorization.poll_first:
            message = (
                f"{write_duration(vectorization.poll_longest)} is shorter than poll_first; "
                f"allowed: at least {write_duration(vectorization.poll_first)}"
            )
            first = (*loc, "vectorization", "poll_first")
            yield Conflict((*loc, "vectorization", "poll_longest"), message, (first,))


def ca_file_conflicts(ca_file: Path | None, loc: Loc) -> Iterator[Conflict]:
    """Yield problems with the certificates that the block at `loc` refers to."""
    if ca_file is None:
        return
    try:
        is_file = stat.S_ISREG(ca_file.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_file = False
    except OSError:
        is_file = True  # assume so, because this user can't access it
    if not is_file:
        message = f"{format_path(ca_file)} is not a file; choose a file of certificates"
        yield Conflict((*loc, "ca_file"), message)


CALLBACK_PATH = "/callback/"


def callback_url(mirror: MirrorConfig) -> str | None:
    """Return the URL that the mirror's service should call, or None if callbacks are off.

    The URL is a secret.
    """
    target = mirror.target
    if not isinstance(target, RemoteTargetConfig) or target.callback_base is None:
        return None
    import hashlib  # imported late: few configs have a callback
    import hmac

    _, *base = target.base_key(mirror.name)
    about = "\0".join(("kbsync callback", mirror.name, *base))
    # The secret is derived, not stored, so it survives the loss of the state and changes with the API key.
    secret = hmac.digest(target.api_key.reveal().encode(), about.encode(), hashlib.sha256).hex()
    return f"{target.callback_base}{CALLBACK_PATH}{secret[:40]}"


def callback_secrets(mirrors: Iterable[MirrorConfig]) -> Mapping[str, Secret]:
    """Return, for each mirror with callbacks, the secret that follows `CALLBACK_PATH` in the callback URL."""
    urls = {mirror.name: callback_url(mirror) for mirror in mirrors}
    return {name: Secret(url.rpartition("/")[2]) for name, url in urls.items() if url is not None}
