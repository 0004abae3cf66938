"""The config block of `type: openai`: a vector store of OpenAI, or of a server that has the same calls."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from kbsync.config.kinds import Choice, ValueKind, Whole
from kbsync.config.secrets import Confidential, Secret
from kbsync.config.target import KEY_ALLOWED, BaseId, BaseUrl, RemoteTargetConfig, canonical

if TYPE_CHECKING:
    from kbsync.contract.target import Surroundings, Target

BASE_URL = "https://api.openai.com/v1"

EXTENSIONS = frozenset(
    {"c", "cpp", "cs", "css", "doc", "docx", "go", "html", "java", "js", "json"}
    | {"md", "pdf", "php", "pptx", "py", "rb", "sh", "tex", "ts", "txt"}
)
"""What file search takes (the vendor's guide "File search", supported files)."""

LARGEST = 512_000_000
"""Bytes of a file (the vendor's reference, "Upload file": 512 MB)."""

SMALLEST_CHUNK, LARGEST_CHUNK = 100, 4096
CHUNK_TOKEN, CHUNK_OVERLAP = 800, 400
"""Tokens; what the vendor's strategy `auto` takes at present."""


class VectorStoreId(BaseId):
    """The id of a vector store."""

    example = "vs_67e2f0a1b2c4819188d0f3c5a7b9e1d2"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenaiTargetConfig(RemoteTargetConfig):
    """A vector store. Sizes are bytes; 0 is no limit of ours."""

    type: Annotated[Literal["openai"], Choice("openai: a vector store as OpenAI has them")] = "openai"
    base_url: Annotated[str, BaseUrl("the API's address, version path included")] = BASE_URL
    api_key: Annotated[Secret, Confidential("the key of the project", *KEY_ALLOWED)]
    vector_store_id: Annotated[str, VectorStoreId("the id of the vector store, in quotes")]
    max_bytes: Annotated[int, Whole("larger files are refused, in bytes", least=1, most=LARGEST)] = LARGEST

    shares_base: ClassVar[bool] = True
    unkept: ClassVar[Mapping[int, str]] = {
        2: "OpenAI keeps it. OGX gives files of equal text one set of passages, found under one of their "
        "paths; where one of them is deleted, the other is attached again and is not found meanwhile",
    }
    document_settings: ClassVar[Mapping[str, ValueKind]] = {
        "chunk_token": Whole("tokens in a piece at most", least=SMALLEST_CHUNK, most=LARGEST_CHUNK),
        "chunk_overlap": Whole("tokens that a piece shares with the next", most=LARGEST_CHUNK // 2),
    }

    def base_key(self, mirror: str) -> tuple[str, ...]:
        """Equal for two mirrors exactly when they would use one vector store."""
        return ("openai", canonical(self.base_url), self.vector_store_id)

    @classmethod
    def rule_conflicts(cls, match: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """An overlap of more than half a piece is refused by the vendor."""
        chunk = settings.get("chunk_token", CHUNK_TOKEN)
        if "chunk_overlap" in settings and settings["chunk_overlap"] > chunk // 2:
            yield "chunk_overlap", f"is more than half of chunk_token; allowed: 0 to {chunk // 2}"

    def open(self, surroundings: Surroundings) -> Target:
        """The vector store; no request is sent yet."""
        from kbsync.targets.http.target import account_of
        from kbsync.targets.openai.target import OpenaiTarget

        return OpenaiTarget(self, surroundings, account=account_of(self))


def recipe_of(settings: Mapping[str, Any]) -> str:
    """How a document is cut: `auto`, which is the vendor's own choice, or such as `t600o200`."""
    if not settings.keys() & OpenaiTargetConfig.document_settings.keys():
        return "auto"
    chunk = settings.get("chunk_token", CHUNK_TOKEN)
    return f"t{chunk}o{settings.get('chunk_overlap', min(CHUNK_OVERLAP, chunk // 2))}"


_CUT = re.compile(r"t(\d+)o(\d+)")


def strategy_of(recipe: str) -> dict[str, Any]:
    """What a request says of a recipe; nothing where it is left to the vendor, or is no recipe of ours."""
    if (found := _CUT.fullmatch(recipe)) is None:
        return {}
    static = {"max_chunk_size_tokens": int(found[1]), "chunk_overlap_tokens": int(found[2])}
    return {"chunking_strategy": {"type": "static", "static": static}}


def described(recipe: str) -> str:
    """The settings that a recipe stands for; "" for a text of another form."""
    if found := _CUT.fullmatch(recipe):
        return f"chunk_token {found[1]}, chunk_overlap {found[2]}"
    return "cut as the service chooses" if recipe == "auto" else ""
