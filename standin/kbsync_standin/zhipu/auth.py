"""Who asks: an API key, or a token signed with its secret."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

_TOLERANCE_MS = 300_000


def objection(header: str | None, key: str, now: float) -> int:
    """The business code (1000 to 1003) that an `Authorization` header meets; 0: it is good.

    `now`: seconds since the epoch by the vendor's clock.
    """
    if not header:
        return 1001
    scheme, _, credential = header.partition(" ")
    if scheme != "Bearer" or not credential or credential != credential.strip():
        return 1002
    if credential.count(".") == 2 and key.count(".") == 1:
        return _objection_to_token(credential, key, now)
    return 0 if hmac.compare_digest(_bytes(credential), _bytes(key)) else 1000


def _objection_to_token(token: str, key: str, now: float) -> int:
    ident, _, secret = key.partition(".")
    signed, _, signature = token.rpartition(".")
    header, _, payload = (_read(piece) for piece in signed.partition("."))
    if header is None or payload is None or (header.get("alg"), header.get("sign_type")) != ("HS256", "SIGN"):
        return 1002
    digest = hmac.digest(_bytes(secret), _bytes(signed), hashlib.sha256)
    good = base64.urlsafe_b64encode(digest).rstrip(b"=")
    if payload.get("api_key") != ident or not hmac.compare_digest(good, _bytes(signature.rstrip("="))):
        return 1000
    return _objection_to_times(payload, now * 1000)


def _objection_to_times(payload: dict[str, Any], now_ms: float) -> int:
    """`exp` and `timestamp` are milliseconds: seconds look long expired."""
    expires, made = payload.get("exp"), payload.get("timestamp")
    if not isinstance(expires, int) or not isinstance(made, int):
        return 1002
    return 1003 if expires <= now_ms or made > now_ms + _TOLERANCE_MS else 0


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _read(piece: str) -> dict[str, Any] | None:
    try:
        value = json.loads(base64.urlsafe_b64decode(piece + "=" * (-len(piece) % 4)))
    except (ValueError, binascii.Error):
        return None
    return value if isinstance(value, dict) else None
