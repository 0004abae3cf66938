"""The config block for `type: openwebui`, and how to open that target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from kbsync.config.kinds import Choice
from kbsync.config.secrets import Confidential, Secret
from kbsync.config.target import KEY_ALLOWED, BaseId, BaseUrl, RemoteTargetConfig, chat_model
from kbsync.dataclass import dataclass

_TEXTS = """
md markdown txt rst adoc org tex csv tsv json jsonl xml yaml yml toml html htm log ini conf sql
py js ts jsx tsx java go rs c h cpp hpp cs rb php sh css
"""
TEXTS = frozenset(_TEXTS.split())
OFFICE = frozenset({"pdf", "docx", "xlsx", "pptx"})
EXTENSIONS = TEXTS | OFFICE
"""Extensions that a server can read by itself. Other formats need an extraction engine, which may be missing.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWebuiTargetConfig(RemoteTargetConfig):
    """A knowledge base on an Open WebUI server."""

    type: Annotated[Literal["openwebui"], Choice("`openwebui`: a knowledge base on an Open WebUI server")] = (
        "openwebui"
    )
    base_url: Annotated[str, BaseUrl("the server's URL as shown in your browser, without `/api`")] = (
        "http://127.0.0.1:8080"
    )
    api_key: Annotated[
        Secret, Confidential("the API key of a user with write access to the knowledge base", *KEY_ALLOWED)
    ]
    knowledge_id: Annotated[
        str, BaseId("the id of the knowledge base, in quotes", "4e741f2c-6b1d-4f0c-9a53-0d3c8e7f2a11")
    ]
    chat_model: Annotated[
        str, chat_model("[answers questions](targets/openwebui.md#questions)", "each question names one")
    ] = ""

    opens: ClassVar[str] = "kbsync.targets.openwebui.target:OpenWebuiTarget"
    id_setting: ClassVar[str] = "knowledge_id"
    unkept: ClassVar[Mapping[int, str]] = {
        3: (
            "each file becomes one document; but if kbsync is killed, or a response is lost, while a copy is "
            "being indexed, and the server hasn't finished after half of `vectorization.give_up`, kbsync has "
            "it indexed again, and the copy's passages may appear twice"
        )
    }
    # Every file of the base has a path, so by the path alone other people's files would look like ours.
    refused: ClassVar[Mapping[tuple[str, str], str]] = {
        (
            "adopt",
            "name",
        ): "names can't identify kbsync's documents on this server; remove the setting, or use content"
    }
