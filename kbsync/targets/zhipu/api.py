"""Code shared by all calls to the service: signs tokens, and classifies responses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
from collections.abc import Callable
from copy import copy

from kbsync.contract.target import TargetContext
from kbsync.errors import Halted, TargetError, Unavailable
from kbsync.targets.http.client import ClockSkew
from kbsync.targets.http.errors import HttpResponse, ResponseClassifier
from kbsync.targets.zhipu.config import ZhipuTargetConfig
from kbsync.targets.zhipu.errors import EXPIRED, classify_response, strip_signatures

ROOT = "/llm-application/open"
"""The path prefix of all calls, after `base_url`."""

LIFE = 210.0
"""Seconds for which a token is valid, as in the service's own client."""

ALARMING, ALARMING_FOR_TOKENS = 300.0, 60.0
"""Clock difference in seconds above which the message about a refused key mentions it, since tokens contain
times.
"""

_MIN_SECRET_LENGTH = 6


def sign_token(key_id: str, secret: str, now: float) -> str:
    """Return a JSON web token, HS256, with times in milliseconds, as the service requires."""
    head = {"alg": "HS256", "sign_type": "SIGN"}
    payload = {"api_key": key_id, "exp": round((now + LIFE) * 1000), "timestamp": round(now * 1000)}
    parts = (json.dumps(part, separators=(",", ":")).encode() for part in (head, payload))
    text = ".".join(map(_base64, parts))
    return f"{text}.{_base64(hmac.digest(secret.encode(), text.encode(), hashlib.sha256))}"


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def skew_sentence(offset: float | None, alarming: float) -> str:
    """Return a sentence about a clock difference, for the message about a refused key; "" if the clocks
    agree.
    """
    if offset is None or abs(offset) <= alarming:
        return ""
    minutes = round(abs(offset) / 60)
    span = f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
    return f"this machine's clock is {span} {'behind' if offset > 0 else 'ahead of'} the service's"


class ZhipuClassifier:
    """Classifies responses, and phrases errors for users.

    An expired token is an error to retry, since each request has a new one, until the service refuses one
    that was signed later. Errors never contain the key or a signature, even if the service echoes them.
    """

    def __init__(
        self, config: ZhipuTargetConfig, context: TargetContext, skew: ClockSkew, wall: Callable[[], float]
    ) -> None:
        self._config, self._skew, self._wall = config, skew, wall
        self._read: ResponseClassifier = classify_response
        self._expired_at = math.inf  # when it first reported an expired token and has accepted none since
        gateway = config.callback_authorization.reveal() if config.callback_authorization else ""
        # Every word of the header's value is secret except the scheme at its beginning.
        scheme, _, rest = gateway.strip().partition(" ")
        words = re.split(r"""[\s,;:="']+""", rest or scheme)
        called, key = context.callback_url.rpartition("/")[2], config.api_key.reveal()
        parts = {key, *key.split("."), called, gateway, *words}
        # Replace the longest first: replacing a part first would leave the rest of the whole.
        self._secrets = sorted((part for part in parts if len(part) >= _MIN_SECRET_LENGTH), key=len)[::-1]

    def reading(self, read: ResponseClassifier) -> ZhipuClassifier:
        """Return a copy that uses `read` to classify a response."""
        other = copy(self)
        other._read = read
        return other

    def __call__(self, response: HttpResponse) -> TargetError | None:
        """Return the error in a response, or None on success."""
        error = self._read(response)
        if error is None:
            if response.sent_at > self._expired_at:
                self._expired_at = math.inf
            return None
        if error.code == EXPIRED and self._config.auth == "jwt" and response.sent_at <= self._expired_at:
            self._expired_at = min(self._expired_at, self._wall())
            error = Unavailable(f"{error.reason}; the next request uses a new token", code=EXPIRED)
        reason = strip_signatures(error.reason)
        for secret in self._secrets:
            reason = reason.replace(secret, "***")
        if isinstance(error, Halted):
            alarming = ALARMING_FOR_TOKENS if self._config.auth == "jwt" else ALARMING
            sentence = skew_sentence(self._skew.offset, alarming)
            if error.halt == "credentials" and sentence:
                reason = f"{reason}; {sentence}"
        error.reason = reason
        error.args = (reason,)
        return error
