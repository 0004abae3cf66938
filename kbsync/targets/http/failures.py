"""What went wrong on the way of a request, in plain words and by what has to be done about it."""

from __future__ import annotations

import enum
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from kbsync.core.printable import printable
from kbsync.errors import TargetError, Unavailable, Unsure
from kbsync.targets.http.endpoint import Timeouts


class AnswerLostError(Exception):
    """An answer that cannot be read to its end; `str()` says why."""


class TooLargeError(AnswerLostError):
    """An answer of more bytes than are taken."""


class BodyChangedError(Exception):
    """A file that is to be sent cannot be read as it was measured; `str()` says how."""


class BodyMissingError(BodyChangedError):
    """A file that is to be sent cannot be opened, so nothing of it went."""


ON_THE_WAY = (httpx.HTTPError, httpx.InvalidURL, AnswerLostError, BodyChangedError, OSError)
"""What can come out of a request instead of an answer."""

_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
    BodyMissingError,
)

_NO_SIGN = (httpx.UnsupportedProtocol, httpx.InvalidURL, AnswerLostError, BodyChangedError)


class Sign(enum.Enum):
    """What a request's end says of the target itself."""

    UP = "up"
    DOWN = "down"
    BUSY = "busy"  # it asks for fewer requests
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that did not end well. `again`: the same could go well in a moment.

    `wish`: seconds the target wants to be left alone, where it said so.
    """

    error: TargetError
    sign: Sign
    again: bool = False
    wish: float | None = None


class Journey:
    """What httpcore reports of one request: whether a byte of it can have left for the target.

    A call of it is a `trace` extension; source: httpcore 1.0, docs/extensions.md. The tunnel's CONNECT
    goes to the proxy and does not count.
    """

    def __init__(self) -> None:
        self._is_traced = False
        self._has_left = False

    async def __call__(self, event: str, facts: Mapping[str, Any]) -> None:
        """Note one step."""
        self._is_traced = True
        if event == "http11.send_request_headers.started":
            self._has_left = self._has_left or facts["request"].method != b"CONNECT"

    def may_have_arrived(self, error: Exception) -> bool:
        """False only where it is certain that the target got nothing."""
        if isinstance(error, _NEVER_SENT):
            return False
        return self._has_left or not self._is_traced


def lost(beginning: str, error: Exception, timeouts: Timeouts, *, may_have_arrived: bool) -> Failure:
    """A request without an answer. `beginning`: of the sentence, up to the host."""
    kind = Unsure if may_have_arrived else Unavailable
    sign = Sign.NONE if isinstance(error, _NO_SIGN) else Sign.DOWN
    return Failure(kind(f"{beginning} {words(error, timeouts)}"), sign, again=not _is_lasting(error))


def _is_lasting(error: Exception) -> bool:
    """No second try changes it: the certificate is not trusted, or the address is none."""
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
        return True
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))


def words(error: Exception, timeouts: Timeouts) -> str:
    """What happened, as the rest of a sentence that begins with the host."""
    match error:
        case TimeoutError():
            return f"did not finish within {timeouts.whole:g} s"
        case httpx.ConnectTimeout():
            return f"did not take a connection within {timeouts.connect:g} s"
        case httpx.PoolTimeout():
            return f"had no free connection within {timeouts.pool:g} s"
        case httpx.ReadTimeout():
            return f"did not answer within {timeouts.read:g} s"
        case httpx.WriteTimeout():
            return f"did not take the request within {timeouts.write:g} s"
        case httpx.ProxyError():
            return f"was not reached: the proxy answered {_plain(error)}"
        case httpx.ConnectError():
            return _unreached(error)
        case httpx.UnsupportedProtocol() | httpx.InvalidURL():
            return "was not reached: the address is not one of http or https"
        case BodyChangedError():
            return f"did not get the whole document: {error}"
        case AnswerLostError():
            return f"answered, but the answer was lost: {error}"
    return "did not answer in full; the answer was lost: the connection was closed or reset"


def _plain(error: Exception) -> str:
    """A proxy's own status line, such as `407 Proxy Authentication Required`."""
    return printable(str(error))[:100]


def _unreached(error: Exception) -> str:
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return (
                    f"was not trusted: {cause.verify_message}; if its certificate comes from an authority "
                    "of your own, set ca_file to that"
                )
            case ssl.SSLError():
                return f"was not reached: TLS failed ({cause.reason or 'no reason given'})"
            case socket.gaierror():
                return "was not found: its name does not resolve; check base_url and the DNS"
            case ConnectionRefusedError():
                return "refused the connection"
    return "could not be reached"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and everything that led to it, with no step taken twice.

    httpcore raises `from None` after it noted the cause as context and as argument.
    """
    seen: set[int] = set()
    todo: list[BaseException] = [error]
    while todo:
        one = todo.pop(0)
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            inner = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
            linked = (one.__cause__, one.__context__, *one.args, *inner)
            todo += [link for link in linked if isinstance(link, BaseException)]
