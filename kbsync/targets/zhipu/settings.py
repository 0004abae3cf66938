"""What a mirror's config says of its target, as this target takes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from kbsync.core.links import EXTENSIONS as LINKS
from kbsync.core.links import LARGEST
from kbsync.core.model import Limits
from kbsync.errors import UsageError
from kbsync.targets.http.target import RemoteSettings
from kbsync.targets.zhipu.formats import EXTENSIONS
from kbsync.targets.zhipu.shapes import USUAL, Recall


@dataclass(frozen=True, slots=True)
class ZhipuSettings(RemoteSettings):
    """`base_url` is in its one form, as the config reads it, and ends in `/api`.

    `chat_model` answers where there are no applications; empty: none does. `recall`: of every search but
    those that confirm a document. `callback_url`: where the vendor calls, a secret; empty: nowhere.
    `callback_authorization`: sent along as that header, a secret; empty: none is. With `auth` `jwt` a key
    that signs no tokens is a `UsageError`, too.
    """

    knowledge_id: str
    max_bytes: int = 100_000_000
    chat_model: str = "glm-4-flash"
    auth: str = "key"
    callback_url: str = field(default="", repr=False)
    callback_authorization: str = field(default="", repr=False)
    recall: Recall = USUAL

    def __post_init__(self) -> None:
        RemoteSettings.__post_init__(self)  # super() knows another class where there are slots
        if self.auth == "jwt" and not signs(self.api_key):
            raise UsageError(
                "api_key cannot sign tokens: it is not id.secret; copy it again, or set auth: key"
            )

    @property
    def limits(self) -> Limits:
        """What the target takes."""
        own = Limits(
            extensions=EXTENSIONS,
            max_bytes=self.max_bytes,
            max_bytes_by_extension=dict.fromkeys(LINKS, min(self.max_bytes, LARGEST)),
            list_lag=1.0,
            ahead=self.concurrency // 2 + 1,
            links=LINKS,
            reembed_grace=self.grace,
            paid=True,
        )
        return self.limited(own)


def signs(key: str) -> bool:
    """It is `id.secret`."""
    key_id, point, secret = key.partition(".")
    return bool(key_id and point and secret and "." not in secret)
