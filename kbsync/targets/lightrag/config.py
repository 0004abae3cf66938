"""The config block for `type: lightrag`, and how to open that target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from kbsync.config.kinds import Bytes, Choice
from kbsync.config.secrets import Confidential, Secret
from kbsync.config.target import KEY_ALLOWED, BaseUrl, RemoteTargetConfig
from kbsync.dataclass import dataclass

MAX_BYTES = 104_857_600
"""Maximum file size in bytes, unless the server sets a different MAX_UPLOAD_SIZE (LightRAG 1.5.7,
api/config.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LightragTargetConfig(RemoteTargetConfig):
    """The only knowledge base of a LightRAG server. Sizes are in bytes; 0 means no limit."""

    type: Annotated[Literal["lightrag"], Choice("`lightrag`: a LightRAG server")] = "lightrag"
    base_url: Annotated[str, BaseUrl("the server's URL, including any API prefix")] = "http://127.0.0.1:9621"
    api_key: Annotated[Secret, Confidential("the server's `LIGHTRAG_API_KEY`", *KEY_ALLOWED)]
    mode: Annotated[
        Literal["naive", "local", "global", "hybrid", "mix"],
        Choice(
            "[how to search](targets/lightrag.md#searches); `naive` compares passages, the others ask a "
            "language model first"
        ),
    ] = "naive"
    max_bytes: Annotated[
        int, Bytes("refuse files larger than this; the server has its own limit", least=1)
    ] = MAX_BYTES

    opens: ClassVar[str] = "kbsync.targets.lightrag.target:LightragTarget"
    room_for_path: ClassVar[int] = 40
    unkept: ClassVar[Mapping[int, str]] = {
        2: (
            "a changed file stays searchable, but a renamed file, or one of several files that swap their "
            "texts, is absent until it is indexed again, because the server accepts each text only once "
            "and kbsync has to delete the old document first"
        ),
        3: (
            "if several files have the same text, only one becomes a document; the others fail, and their "
            "reason names that document"
        ),
    }
    # The server can't return a file's bytes, so only the name can identify a document.
    refused: ClassVar[Mapping[tuple[str, str], str]] = {
        ("names", "plain"): (
            "plain names can't identify documents on this server; remove the setting, or use tagged"
        )
    }
