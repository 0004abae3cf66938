"""How a request shows who asks: the API key itself, or a token of short life that its secret signs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Protocol

from kbsync.targets.zhipu.settings import ZhipuSettings

LIFE, KEPT = 210.0, 180.0
"""Seconds a token is good for, and is used for, as in the vendor's own client."""

TOLERANCE = 60.0
"""Seconds by which the clocks may differ before that is told of a token that is refused."""


class Keys(Protocol):
    """What goes into the headers, and what the answers say of it. `sent_at`: seconds since the epoch."""

    def headers(self) -> Mapping[str, str]:
        """Those that tell who asks."""

    def renews(self, sent_at: float) -> bool:
        """A request of `sent_at` was told that its key has run out: another one may be taken."""

    def accepted(self, sent_at: float) -> None:
        """A request of `sent_at` was let in."""


class PlainKey:
    """The key as it is."""

    def __init__(self, key: str) -> None:
        self._headers = {"Authorization": f"Bearer {key}"}

    def headers(self) -> Mapping[str, str]:
        """The same for every request."""
        return self._headers

    def renews(self, sent_at: float) -> bool:
        """There is no other."""
        return False

    def accepted(self, sent_at: float) -> None:
        """Nothing follows."""


class Tokens:
    """Tokens signed with the secret of `key` (`id.secret`), made anew before they run out. `wall`: our clock.

    A token that is called expired is made anew once; when the new one is refused too, no third is tried.
    """

    def __init__(self, key: str, wall: Callable[[], float]) -> None:
        self._id, _, self._secret = key.partition(".")
        self._wall = wall
        self._token, self._made_at = "", 0.0
        self._is_second_try = False

    def headers(self) -> Mapping[str, str]:
        """With a token that is good for another half a minute at least."""
        now = self._wall()
        if not self._token or not 0 <= now - self._made_at < KEPT:
            self._token, self._made_at = signed(self._id, self._secret, now), now
        return {"Authorization": f"Bearer {self._token}"}

    def renews(self, sent_at: float) -> bool:
        """True until a token made for this reason is refused as well."""
        if self._token and sent_at >= self._made_at:
            if self._is_second_try:
                return False
            self._token, self._is_second_try = "", True
        return True

    def accepted(self, sent_at: float) -> None:
        """The token at hand is good."""
        if self._token and sent_at >= self._made_at:
            self._is_second_try = False


def keys_of(settings: ZhipuSettings, wall: Callable[[], float]) -> Keys:
    """As the config wants it."""
    return Tokens(settings.api_key, wall) if settings.auth == "jwt" else PlainKey(settings.api_key)


def signed(key_id: str, secret: str, now: float) -> str:
    """A JSON web token, HS256, its times in milliseconds as the vendor wants them."""
    head = {"alg": "HS256", "sign_type": "SIGN"}
    payload = {"api_key": key_id, "exp": round((now + LIFE) * 1000), "timestamp": round(now * 1000)}
    text = f"{_part(head)}.{_part(payload)}"
    return f"{text}.{_base64(hmac.digest(secret.encode(), text.encode(), hashlib.sha256))}"


def _part(value: Mapping[str, object]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
