"""The outcomes of requests: a response or a transport failure, and how a caller may react."""

from __future__ import annotations

import enum
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from kbsync.core.text import printable
from kbsync.dataclass import dataclass
from kbsync.errors import TargetError, Unavailable, Unsure
from kbsync.targets.http.connection import Timeouts, UnusableProxyError
from kbsync.targets.http.reading import Fields, object_of

MAX_RETRY_AFTER = 300.0
"""Maximum Retry-After in seconds; longer ones are reduced to this."""

EXCERPT = 300
"""Maximum number of characters of a response that messages quote."""

_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")
_TITLE = re.compile(r"<title>\s*([^<]{1,100})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A complete response.

    `op`: the operation, such as `upload`. `host`: the name of the service. `headers` have lowercase names.
    `body` is the parsed JSON, regardless of the content type, or None. `text` is the printable beginning of
    the body. `sent_at`: in epoch seconds.
    """

    op: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: Any | None = field(repr=False)
    text: str = field(repr=False)
    sent_at: float
    host: str = "the target"

    @property
    def fields(self) -> Fields:
        """The fields of the body if that is a JSON object, otherwise empty."""
        return object_of(self.body)

    @property
    def retry_after(self) -> float | None:
        """How many seconds the target asks us to wait, from 0 to `MAX_RETRY_AFTER`, or None if unclear.

        RFC 9110, 10.2.3: seconds or a date. A date is compared with the response's own date, if there is one.
        """
        value = self.headers.get("retry-after", "").strip()
        if _SECONDS.fullmatch(value):
            return min(float(value), MAX_RETRY_AFTER)
        until = _date(value)
        if until is None:
            return None
        return min(max(0.0, until - (self.sent_at if self.date is None else self.date)), MAX_RETRY_AFTER)

    @property
    def date(self) -> float | None:
        """When the target sent the response, in whole seconds by its own clock, or None if unknown."""
        return _date(self.headers.get("date", ""))

    @property
    def is_success(self) -> bool:
        """Whether the HTTP status indicates success.

        That isn't enough if the body says otherwise (promise 10).
        """
        return 200 <= self.status < 300

    @property
    def is_page(self) -> bool:
        """Whether the body is a web page instead of JSON, as sent by proxies and by services under
        maintenance.
        """
        return self.body is None and self.text.lstrip().startswith("<")

    @property
    def excerpt(self) -> str:
        """The part of the body to quote in messages. For a web page, this is only its title."""
        if not self.is_page:
            return self.text
        title = _TITLE.search(self.text)
        return f"a web page, {' '.join(title[1].split())}" if title else "a web page"


ResponseClassifier = Callable[[HttpResponse], TargetError | None]
"""Classifies a service's response (`rules.classify`): None means success; an unknown outcome is `Unsure`."""


def _date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None


class UnreadableResponseError(Exception):
    """Raised if a response can't be read completely. `str()` says why."""


class TooLargeError(UnreadableResponseError):
    """A response is longer than allowed."""


class CompressedError(UnreadableResponseError):
    """Raised if a response is compressed although kbsync didn't request that."""


class BodyChangedError(Exception):
    """Raised if a file to send no longer has its measured length. `str()` says how the length differs."""


class BodyMissingError(BodyChangedError):
    """Raised if a file to send can't be opened. In that case, nothing was sent."""


TRANSPORT_ERRORS = (httpx.HTTPError, httpx.InvalidURL, UnreadableResponseError, BodyChangedError, OSError)
"""Exceptions that a request may raise instead of returning a response."""

_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
    BodyMissingError,
)
_LASTING = (httpx.UnsupportedProtocol, httpx.InvalidURL, UnusableProxyError)
"""Errors that a retry won't fix."""

_NO_RETRY = (*_LASTING, TimeoutError)
"""Errors after which the caller isn't kept waiting for another attempt.

A request that took all of its time (`TimeoutError`) would probably take it again.
"""

CERTIFICATE_DATES, _CERTIFICATE_NAMES = (9, 10), (62, 64)
"""OpenSSL's codes for a certificate that isn't valid yet or has expired, and for one with other names
(x509_vfy.h).
"""

_NO_SIGN = (*_LASTING, UnreadableResponseError, BodyChangedError)


class Sign(enum.Enum):
    """What the outcome of a request says about the target's state."""

    UP = "up"
    DOWN = "down"
    BUSY = "busy"  # the target asks for fewer requests
    NONE = "none"


@dataclass(frozen=True, slots=True)
class FailedRequest:
    """A failed request.

    `may_retry`: whether a retry may soon succeed. `retry_after`: the seconds in the Retry-After header, if
    any. This is a value and not an exception, so that `error` has no transport error attached, which would
    contain the request and its key.
    """

    error: TargetError
    sign: Sign
    may_retry: bool = False
    retry_after: float | None = None


class SendTrace:
    """Records what httpcore reports about a request: whether any byte may have reached the target.

    It is a `trace` extension; source: httpcore 1.0, docs/extensions.md. The CONNECT request for a tunnel is
    ignored, because it goes to the proxy.
    """

    def __init__(self) -> None:
        self._is_traced = False
        self._has_left = False

    async def __call__(self, event: str, facts: Mapping[str, Any]) -> None:
        """Record one step that httpcore reports."""
        self._is_traced = True
        if event == "http11.send_request_headers.started":
            self._has_left = self._has_left or facts["request"].method != b"CONNECT"

    def may_have_arrived(self, error: Exception) -> bool:
        """Return False only if it is certain that the target received nothing."""
        if isinstance(error, _NEVER_SENT):
            return False
        return self._has_left or not self._is_traced


def failed_request(
    beginning: str, error: Exception, timeouts: Timeouts, *, may_have_arrived: bool
) -> FailedRequest:
    """Return the outcome of a request that got no response.

    `beginning`: the start of the message, up to the host.
    """
    kind = Unsure if may_have_arrived else Unavailable
    sign = Sign.NONE if isinstance(error, _NO_SIGN) else Sign.DOWN
    may_retry = not isinstance(error, _NO_RETRY) and not any(
        isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)
    )
    return FailedRequest(kind(f"{beginning} {describe_failure(error, timeouts)}"), sign, may_retry=may_retry)


def describe_failure(error: Exception, timeouts: Timeouts) -> str:
    """Return what happened and, if known, which setting fixes it, as the rest of a sentence that begins with
    the host.
    """
    return "; ".join(filter(None, (what_happened(error, timeouts), _advise(error))))


def what_happened(error: Exception, timeouts: Timeouts) -> str:
    """Return what happened, as the rest of a sentence that begins with the host."""
    match error:
        case TimeoutError():
            return f"did not finish within {timeouts.whole:g} s"
        case httpx.ConnectTimeout():
            return f"did not accept a connection within {timeouts.connect:g} s"
        case httpx.ReadTimeout():
            return f"did not answer within {timeouts.read:g} s"
        case httpx.WriteTimeout():
            return f"did not accept the request within {timeouts.write:g} s"
        case UnusableProxyError():
            return f"could not be reached: {error}"
        case httpx.ProxyError():  # the proxy's status line, such as `407 Proxy Authentication Required`
            return f"could not be reached: the proxy answered {printable(str(error))[:100]}"
        case httpx.ConnectError():
            return _describe_unreachable(error)
        case httpx.UnsupportedProtocol() | httpx.InvalidURL():
            return "could not be reached: the URL does not use http or https"
        case BodyChangedError():
            return f"did not receive the whole document: {error}"
        case UnreadableResponseError():
            return f"responded, but the response could not be read: {error}"
    return "did not send a complete response: the connection was closed or reset"


def _describe_unreachable(error: Exception) -> str:
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError(verify_code=code) if code in _CERTIFICATE_NAMES:
                return "has a certificate for other names"
            case ssl.SSLCertVerificationError():
                return f"has an untrusted certificate: {cause.verify_message.rstrip('.')}"
            case ssl.SSLError(reason="WRONG_VERSION_NUMBER"):
                return "could not be reached: the server does not use TLS"
            case ssl.SSLError():
                return f"could not be reached: TLS failed ({cause.reason or 'no reason given'})"
            case socket.gaierror():
                return "could not be reached: the host name does not resolve"
            case ConnectionRefusedError():
                return "refused the connection"
    return "could not be reached"


def _advise(error: Exception) -> str:
    """Return what to set or check after a failed request to a target, or "" if that isn't known."""
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError(verify_code=code) if code in _CERTIFICATE_NAMES:
                return "set base_url to a name in the certificate"
            case ssl.SSLCertVerificationError(verify_code=code) if code in CERTIFICATE_DATES:
                return "ask the service's operator to renew it, or correct this machine's clock"
            case ssl.SSLCertVerificationError():
                return "if your own CA issued its certificate, set ca_file to that CA's certificate"
            case ssl.SSLError(reason="WRONG_VERSION_NUMBER"):
                return "if it is in your own network, use http://"
            case socket.gaierror():
                return "check the name and DNS"
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all its causes, each only once.

    httpcore raises `from None`, but keeps the cause as context and as argument.
    """
    visited: set[int] = set()
    todo: list[BaseException] = [error]
    while todo:
        current = todo.pop(0)
        if id(current) not in visited:
            visited.add(id(current))
            yield current
            inner = current.exceptions if isinstance(current, BaseExceptionGroup) else ()
            linked = (current.__cause__, current.__context__, *current.args, *inner)
            todo += [link for link in linked if isinstance(link, BaseException)]
