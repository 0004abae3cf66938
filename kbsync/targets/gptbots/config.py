"""The config block for `type: gptbots`, and how to open that target."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Annotated, Any, ClassVar, Literal

from kbsync.config.kinds import About, Bytes, Choice, Fraction, Text, ValueKind, Whole
from kbsync.config.secrets import Confidential, Secret
from kbsync.config.target import KEY_ALLOWED, BaseId, BaseUrl, RemoteTargetConfig
from kbsync.core.links import EXTENSIONS as LINKS
from kbsync.core.text import extension_of
from kbsync.dataclass import dataclass

MARKER_BASE = "https://kbsync.invalid"

# Maximum size of a document (the service's page "update text document": pdf 30 MB, all others 10 MB).
MAX_BYTES, MAX_PDF_BYTES = 10_000_000, 30_000_000

RANKING_MODELS = ("BGE-Rerank", "Jina-reranker-v2-base-multilingual", "Jina-colbert-v2", "BCE-Rerank")
"""The ranking models listed on the service's search page ("vector match", `rerank_version`)."""


@dataclass(frozen=True, slots=True)
class GptbotsSearchConfig:
    """Search settings. None means the service's default."""

    embedding_rate: Annotated[
        float | None, Fraction("weight of semantic similarity; `0`: words only, `1`: similarity only")
    ] = None
    doc_correlation: Annotated[
        float | None, Fraction("drop passages with a lower score", least=0.1, most=0.95)
    ] = None
    rerank_version: Annotated[
        str | None,
        Choice(
            "the ranking model for every search; default: none, or `BGE-Rerank` with `--rerank`",
            RANKING_MODELS,
        ),
    ] = None


FETCHED = frozenset({"pdf", "txt", "md", "doc", "docx"})
"""The formats of files that the service fetches from a URL. It doesn't document that it fetches web pages."""

_SHEETS = frozenset({"csv", "xls", "xlsx"})
EXTENSIONS = _SHEETS | FETCHED | LINKS
KINDS = {"text": FETCHED | LINKS, "spreadsheet": _SHEETS, "qa": _SHEETS}
"""The extensions that each kind of document accepts (the service's pages on adding documents)."""


CUTTING: Mapping[str, ValueKind] = {
    "kind": Choice(
        "[kind of document](targets/gptbots.md#kinds-of-documents): `text`; for tables `spreadsheet` or `qa` "
        "(questions and answers); default: `spreadsheet` for tables, otherwise `text`",
        tuple(KINDS),
    ),
    "chunk_token": Whole("tokens per chunk; default: `600`", least=1, most=1000),
    "splitter": Text(
        "the string that ends a chunk, instead of `chunk_token`; not for spreadsheets",
        r"[\s\S]+",
        r'a string, such as "\n\n"',
    ),
    "header_row": Whole("the row that contains a table's headings; default: `1`", least=1, most=5),
}
"""The settings that a document rule may have for this target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GptbotsTargetConfig(RemoteTargetConfig):
    """A GPTBots knowledge base. Sizes are in bytes; 0 means no limit."""

    type: Annotated[Literal["gptbots"], Choice("`gptbots`: a knowledge base in GPTBots")] = "gptbots"
    base_url: Annotated[
        str, BaseUrl("the URL of the API, in the key's region: `api-sg`, `api-jp` or `api-th`")
    ] = "https://api-sg.gptbots.ai"
    api_key: Annotated[Secret, Confidential("the key of the bot", *KEY_ALLOWED)]
    knowledge_base_id: Annotated[
        str, BaseId("the id of the knowledge base, in quotes", "67457fea6f658672d6482542")
    ]
    source_url_prefix: Annotated[
        str, BaseUrl("the start of each document's URL; answers link to that URL")
    ] = MARKER_BASE
    search: Annotated[GptbotsSearchConfig, About("settings of [searches](targets/gptbots.md#searches)")] = (
        field(default_factory=GptbotsSearchConfig)
    )
    max_bytes: Annotated[
        int,
        Bytes(
            "refuse files larger than this; above 10 MB, only PDFs are accepted", least=1, most=MAX_PDF_BYTES
        ),
    ] = MAX_PDF_BYTES

    opens: ClassVar[str] = "kbsync.targets.gptbots.target:GptbotsTarget"
    id_setting: ClassVar[str] = "knowledge_base_id"
    document_settings: ClassVar[Mapping[str, ValueKind]] = CUTTING

    @classmethod
    def rule_conflicts(cls, match: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield conflicts between the settings of a rule for the documents that its `match` selects."""
        if "splitter" in settings and "chunk_token" in settings:
            yield "splitter", "cannot be combined with chunk_token; remove one of them"
        extension = extension_of(match)
        legal = [kind for kind, extensions in KINDS.items() if extension in extensions]
        kind = settings.get("kind", legal[0] if legal else None)
        if kind == "spreadsheet" and "splitter" in settings:
            yield "splitter", "doesn't apply to spreadsheets; remove it"
        if kind == "text" and "header_row" in settings:
            yield "header_row", "doesn't apply to text files; remove it"
        if legal and "kind" in settings and settings["kind"] not in legal:
            yield ("kind", f"{kind} doesn't accept {extension} files; allowed: {', '.join(legal)}")


# The service's defaults. kbsync sends them anyway, because a request without any rule is refused.
CHUNK_TOKEN, HEADER_ROW = 600, 1


_LETTERS = {"text": "t", "spreadsheet": "x", "qa": "q"}


def kind_of(path: str, settings: Mapping[str, Any]) -> str:
    """Return the service's kind for a document. The kind determines which calls to use, and never changes."""
    if extension_of(path) not in _SHEETS:
        return "text"
    return "qa" if settings.get("kind") == "qa" else "spreadsheet"


def cutting_of(path: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return how to split the document at `path`, as fields of a request.

    Settings that don't fit its kind are ignored.
    """
    kind = kind_of(path, settings)
    fields: dict[str, Any] = {"purpose": "QA_FILE"} if kind == "qa" else {}
    # The call for spreadsheets has no `splitter`; in other calls `splitter` takes precedence anyway.
    if "splitter" in settings and kind != "spreadsheet":
        fields["splitter"] = settings["splitter"]
    else:
        fields["chunk_token"] = settings.get("chunk_token", CHUNK_TOKEN)
    if kind != "text":
        fields["header_row"] = settings.get("header_row", HEADER_ROW)
    return fields


def recipe_of(path: str, settings: Mapping[str, Any]) -> str:
    """Return the recipe of the document at `path`; for example, `t600`, `ts1f0c9a3b` or `x600h1`."""
    fields = cutting_of(path, settings)
    rule = fields.get("chunk_token")
    if rule is None:
        rule = f"s{hashlib.sha256(fields['splitter'].encode('utf-8', 'replace')).hexdigest()[:8]}"
    header = f"h{fields['header_row']}" if "header_row" in fields else ""
    return f"{_LETTERS[kind_of(path, settings)]}{rule}{header}"


def describe_recipe(recipe: str) -> str:
    """Return the settings that a recipe encodes, as text, or "" if the recipe has a different form."""
    match = re.fullmatch(r"([txq])(?:(\d+)|s([0-9a-f]{8}))(?:h(\d+))?", recipe)
    if match is None:
        return ""
    kind = "kind qa, " if match[1] == _LETTERS["qa"] else ""
    rule = f"chunk_token {match[2]}" if match[2] else f"splitter {match[3]}"
    return f"{kind}{rule}{f', header_row {match[4]}' if match[4] else ''}"
