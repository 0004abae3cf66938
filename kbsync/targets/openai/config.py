"""The config block of `type: openai`: a vector store on OpenAI or a server with the same API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from kbsync.config.kinds import Bytes, Choice
from kbsync.config.secrets import Confidential, Secret
from kbsync.config.target import KEY_ALLOWED, BaseId, BaseUrl, RemoteTargetConfig, chat_model
from kbsync.dataclass import dataclass

OFFICE = frozenset({"doc", "docx", "pptx"})

_TEXTS = "c cpp cs css go html java js json md php py rb sh tex ts txt"
TEXTS = frozenset(_TEXTS.split())

EXTENSIONS = TEXTS | OFFICE | {"pdf"}
"""Extensions that file search accepts (the service's guide "File search", supported files)."""

MAX_BYTES = 512_000_000
"""Maximum file size in bytes (the service's reference, "Upload file": 512 MB)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenaiTargetConfig(RemoteTargetConfig):
    """A vector store. Sizes are in bytes; 0 means no limit."""

    type: Annotated[
        Literal["openai"], Choice("`openai`: a vector store on OpenAI or a compatible server")
    ] = "openai"
    base_url: Annotated[
        str, BaseUrl("the URL of the API, or of a server with the same API, including the version path")
    ] = "https://api.openai.com/v1"
    api_key: Annotated[Secret, Confidential("the key of the project", *KEY_ALLOWED)]
    vector_store_id: Annotated[
        str, BaseId("the id of the vector store, in quotes", "vs_67e2f0a1b2c4819188d0f3c5a7b9e1d2")
    ]
    chat_model: Annotated[
        str, chat_model("[answers questions](targets/openai.md#questions)", "each question names one")
    ] = ""
    max_bytes: Annotated[int, Bytes("refuse files larger than this", least=1, most=MAX_BYTES)] = MAX_BYTES

    opens: ClassVar[str] = "kbsync.targets.openai.target:OpenaiTarget"
    id_setting: ClassVar[str] = "vector_store_id"
    unkept: ClassVar[Mapping[int, str]] = {
        2: "on OGX, not on OpenAI: files with equal text share their passages, which searches find "
        "under one of their paths; when kbsync deletes one of its files, it immediately restores the "
        "passages of the others, including other people's; until then, searches miss them"
    }
