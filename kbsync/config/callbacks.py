"""Addresses under which a service calls back: one for each mirror, with a secret in its path.

The secret is derived, so nothing has to be kept: it is the same after a restart and after the state was lost,
and another one with another key. It tells nothing of the key, which the one who is given it has anyway.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping

from kbsync.config.model import MirrorConfig
from kbsync.config.secret import Secret
from kbsync.config.target import RemoteTargetConfig

PATH = "/callback/"
_DIGITS = 40


def callback_url(mirror: MirrorConfig) -> str | None:
    """Where the mirror's service is to call; None where it is not. Never to be shown."""
    target = mirror.target
    if not isinstance(target, RemoteTargetConfig) or target.callback_base is None:
        return None
    _, *base = target.base_key(mirror.name)
    about = "\0".join(("kbsync callback", mirror.name, *base))
    # Derived and not stored: the same after the state was lost, and another one with another key.
    secret = hmac.digest(target.api_key.reveal().encode(), about.encode(), hashlib.sha256).hex()[:_DIGITS]
    return f"{target.callback_base}{PATH}{secret}"


def callback_secrets(mirrors: Iterable[MirrorConfig]) -> Mapping[str, Secret]:
    """What stands behind `PATH` for each mirror that is called back."""
    urls = {mirror.name: callback_url(mirror) for mirror in mirrors}
    return {name: Secret(url.rpartition("/")[2]) for name, url in urls.items() if url is not None}
