"""Signed addresses of files: new at every read, good for ten hours, needing no key."""

from __future__ import annotations

import hashlib
import hmac
import itertools
from collections.abc import Mapping

from kbsync_standin.zhipu.routes import FILES

VALID_SECONDS = 36_000


class Signer:
    """Makes and checks the addresses under which documents can be read."""

    def __init__(self, secret: str) -> None:
        """`secret`: known to the vendor alone."""
        self._secret = secret.encode()
        self._nonces = itertools.count(1)

    def url(self, origin: str, ident: str, start: float, form: str = "") -> str:
        """The address of document `ident`, good from `start`. `form` `expired` or `wrong`: not good."""
        begin = int(start) - (2 * VALID_SECONDS if form == "expired" else 0)
        span = f"{begin};{begin + VALID_SECONDS}"
        nonce = f"{next(self._nonces):08x}"
        signature = "0" * 32 if form == "wrong" else self._signature(ident, span, nonce)
        escaped = span.replace(";", "%3B")
        return f"{origin}{FILES}{ident}?q-sign-time={escaped}&q-signature={nonce}{signature}"

    def allows(self, ident: str, query: Mapping[str, str], now: float) -> bool:
        """`query` of an address for `ident` is ours, and good at `now`."""
        span, signature = query.get("q-sign-time", ""), query.get("q-signature", "")
        expected = signature[:8] + self._signature(ident, span, signature[:8])
        if not hmac.compare_digest(_bytes(expected), _bytes(signature)):
            return False
        begin, _, end = span.partition(";")
        return int(begin) - 1 <= now < int(end)

    def _signature(self, ident: str, span: str, nonce: str) -> str:
        message = _bytes(f"{ident} {span} {nonce}")
        return hmac.digest(self._secret, message, hashlib.sha256).hex()[:32]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
