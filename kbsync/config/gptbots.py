"""The settings of target type `gptbots`: the knowledge API of GPTBots, and how it cuts documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from kbsync.config.kinds import (
    About,
    Choice,
    Confidential,
    Fraction,
    RefusedValue,
    ValueKind,
    Whereabouts,
    Whole,
    value_shown,
)
from kbsync.config.remote import (
    CA_FILE,
    CONCURRENCY,
    KEY_ALLOWED,
    LINKS,
    PER_MINUTE,
    PROXY,
    UPLOAD_SPEED,
    WAITING,
    BaseId,
    BaseUrl,
    VectorizationConfig,
    canonical,
)
from kbsync.config.secret import Secret

BASE_URL = "https://api-sg.gptbots.ai"
MARKER_BASE = "https://kbsync.invalid"


class GptbotsBaseId(BaseId):
    """The id of a knowledge base."""

    example = "67457fea6f658672d6482542"


RANKING_MODELS = ("BGE-Rerank", "Jina-reranker-v2-base-multilingual", "Jina-colbert-v2", "BCE-Rerank")
"""Those of the vendor's page on searches ("vector match", `rerank_version`)."""


@dataclass(frozen=True, slots=True)
class GptbotsSearchConfig:
    """How searches are asked for; None: left to the service."""

    embedding_rate: Annotated[
        float | None, Fraction("how much meaning counts: from 0, words alone, to 1, meaning alone")
    ] = None
    doc_correlation: Annotated[
        float | None, Fraction("passages with a lower score are left out", least=0.1, most=0.95)
    ] = None
    rerank_version: Annotated[
        str | None,
        Choice("the ranking model of every search; absent: none, or BGE-Rerank on request", RANKING_MODELS),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GptbotsTargetConfig:
    """A knowledge base at GPTBots. Sizes are bytes; 0 is no limit of ours."""

    type: Annotated[Literal["gptbots"], Choice("gptbots: a knowledge base at GPTBots", ("gptbots",))] = (
        "gptbots"
    )
    base_url: Annotated[str, BaseUrl("the API's address, in the region of the key: sg, jp or th")] = BASE_URL
    api_key: Annotated[
        Secret,
        Confidential("the key of the bot", *KEY_ALLOWED),
    ]
    knowledge_base_id: Annotated[str, GptbotsBaseId("the id of the knowledge base, in quotes")]
    concurrency: Annotated[int, CONCURRENCY] = 4
    requests_per_minute: Annotated[int, PER_MINUTE] = 0
    upload_bytes_per_second: Annotated[int, UPLOAD_SPEED] = 0
    vectorization: Annotated[VectorizationConfig, WAITING] = field(default_factory=VectorizationConfig)
    source_url_prefix: Annotated[
        str, BaseUrl("what the address of a document begins with, which answers cite as a link")
    ] = MARKER_BASE
    qa_update: Annotated[
        Literal["replace", "in_place"],
        Choice(
            "how a document of questions and answers is changed: by a new one, or where it lies",
            ("replace", "in_place"),
        ),
    ] = "replace"
    search: Annotated[GptbotsSearchConfig, About("how searches are asked for")] = field(
        default_factory=GptbotsSearchConfig
    )
    ca_file: Annotated[Path | None, CA_FILE] = None
    proxy: Annotated[Secret | None, PROXY] = None
    max_bytes: Annotated[
        int,
        Whole("larger files are refused, in bytes; over 10 MB only pdf", least=1, most=30_000_000),
    ] = 30_000_000

    shares_base: ClassVar[bool] = True
    """Several mirrors may put their documents into one knowledge base of this type."""

    def base_key(self, mirror: str) -> tuple[str, ...]:
        """Equal for two mirrors exactly when they would use one knowledge base."""
        return ("gptbots", canonical(self.base_url), self.knowledge_base_id)


KINDS: Mapping[str, tuple[str, ...]] = {
    "text": ("pdf", "txt", "md", "doc", "docx", *LINKS),
    "spreadsheet": ("csv", "xls", "xlsx"),
    "qa": ("csv", "xls", "xlsx"),
}
"""The extensions that each kind of document takes (the vendor's pages on adding documents)."""


class Splitter(ValueKind):
    """A text that ends a piece of a document."""

    def read(self, value: object, where: Whereabouts) -> str:
        """The text."""
        if not isinstance(value, str) or not value:
            raise RefusedValue(f'{value_shown(value)} is not taken; allowed: a text, such as "\\n\\n"')
        return value

    def json(self) -> dict[str, Any]:
        """A string."""
        return {"type": "string", "minLength": 1}


CUTTING: Mapping[str, ValueKind] = {
    "kind": Choice("what the document is: texts are text, tables spreadsheet or qa", tuple(KINDS)),
    "chunk_token": Whole("tokens in a piece at most", least=1, most=1000),
    "splitter": Splitter("where a piece ends, instead of chunk_token; not for spreadsheets"),
    "header_row": Whole("the row of a table that has its headings", least=1, most=5),
}
"""What a document rule may set for this target."""


def cutting_problems(match: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What does not hold between settings that are each fine: the key and a sentence for each."""
    if "splitter" in settings and "chunk_token" in settings:
        yield "splitter", "excludes chunk_token; remove one of them"
    extension = match.rpartition("/")[2].rpartition(".")[2].lower()
    legal = [kind for kind, extensions in KINDS.items() if extension in extensions]
    kind = settings.get("kind", legal[0] if legal else None)
    if kind == "spreadsheet" and "splitter" in settings:
        yield "splitter", "has no meaning for spreadsheets; remove it"
    if kind == "text" and "header_row" in settings:
        yield "header_row", "has no meaning for texts; remove it"
    if legal and "kind" in settings and settings["kind"] not in legal:
        yield (
            "kind",
            f"{kind} does not take {extension} files; allowed for it: {', '.join(legal)}",
        )
