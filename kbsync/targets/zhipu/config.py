"""The config block of `type: zhipu`, the knowledge API of Zhipu BigModel, and the recipes of documents there.

`knowledge_type` (the manual's term) is the service's way of splitting documents: 1 titles and paragraphs, 2
questions and answers, 3 rows, 5 your own separators, 6 pages, 7 single items. Which ones are allowed depends
on the extension of the uploaded file's name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from kbsync.config.kinds import About, Bytes, Choice, Fraction, ValueKind, Whole, invalid_value
from kbsync.config.problems import Conflict, Loc
from kbsync.config.secrets import Confidential, Secret
from kbsync.config.target import BaseId, BaseUrl, RemoteTargetConfig, chat_model
from kbsync.core.links import EXTENSIONS as LINKS
from kbsync.core.text import extension_of
from kbsync.dataclass import dataclass

if TYPE_CHECKING:
    from kbsync.config.model import MirrorConfig

_ID_AND_SECRET = re.compile(r"[^.]+\.[^.]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ZhipuSearchConfig:
    """Search settings. None means the service's default."""

    recall_method: Annotated[
        Literal["embedding", "keyword", "mixed"],
        Choice("`embedding` (vectors), `keyword` (words) or `mixed`"),
    ] = "mixed"
    recall_ratio: Annotated[
        int | None,
        Whole("weight of vectors in percent; only for `mixed`; default: the service's", least=1, most=99),
    ] = None
    top_n: Annotated[int, Whole("candidate passages", least=1, most=100)] = 100
    rerank_model: Annotated[
        Literal["rerank", "rerank-pro"], Choice("the ranking model to use with `--rerank`")
    ] = "rerank"
    fractional_threshold: Annotated[
        float | None, Fraction("drop passages with a lower score; default: none", 0.001, 0.999)
    ] = None


_TEXTS = ("txt", "doc", "pdf", "docx", "ppt", "pptx", "md", *sorted(LINKS))
_TABLES = ("xls", "xlsx", "csv")
TITLES, ROWS, CUSTOM = 1, 3, 5
SLICES: Mapping[int, tuple[str, ...]] = {
    TITLES: _TEXTS,
    2: _TEXTS,
    ROWS: _TABLES,
    CUSTOM: _TEXTS,
    6: ("pdf", "ppt", "pptx"),
    7: _TABLES,
}
"""The extensions that each `knowledge_type` accepts (the service's manual, "knowledge_type"; 4 was
removed).
"""


class KnowledgeType(ValueKind):
    """The config value for a `knowledge_type`."""

    form: ClassVar = {"type": "integer", "enum": list(SLICES)}

    def read(self, value: object) -> int:
        """Parse the number."""
        if type(value) is not int or value not in SLICES:
            raise invalid_value(value, _listed(SLICES))
        return value


class Separators(ValueKind):
    """The config value for the strings that end a chunk."""

    form: ClassVar = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}

    def read(self, value: object) -> list[str]:
        """Parse the list of texts."""
        items = value if isinstance(value, list) else []
        if not items or not all(isinstance(item, str) and item for item in items):
            raise invalid_value(value, 'a list of strings, such as ["\\n\\n"]')
        return items


class Flag(ValueKind):
    """The config value for a boolean."""

    form: ClassVar = {"type": "boolean"}

    def read(self, value: object) -> bool:
        """Parse the boolean."""
        if not isinstance(value, bool):
            raise invalid_value(value, "true, false")
        return value


SLICING: Mapping[str, ValueKind] = {
    "knowledge_type": KnowledgeType(
        "[how the document is split](targets/zhipu.md#how-documents-are-cut): `1` titles and paragraphs, "
        "`2` questions and answers, `3` rows, `5` your own separators, `6` pages, `7` single items; "
        "default: `3` for tables, otherwise `1`"
    ),
    "custom_separator": Separators(r'strings that end a chunk; `knowledge_type: 5` only; default: `["\n"]`'),
    "sentence_size": Whole(
        "characters per chunk; only for `knowledge_type: 5`; default: `300`", least=20, most=2000
    ),
    "parse_image": Flag("whether to read images in the document; default: `false`"),
    "word_num_limit": Whole(
        "index only this many words of the document; searches won't find the rest; not for link files",
        least=1,
    ),
}
"""The settings that a document rule may have for this target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZhipuTargetConfig(RemoteTargetConfig):
    """A knowledge base on Zhipu BigModel. Sizes are in bytes; 0 means no limit."""

    type: Annotated[Literal["zhipu"], Choice("`zhipu`: a knowledge base in Zhipu BigModel")] = "zhipu"
    base_url: Annotated[
        str, BaseUrl("the URL of the API; requests go to `{base_url}/llm-application/open/…`")
    ] = "https://open.bigmodel.cn/api"
    auth: Annotated[
        Literal["key", "jwt"],
        Choice("send the `key`, or short-lived tokens signed with it (`jwt`), which need a correct clock"),
    ] = "key"
    knowledge_id: Annotated[
        # In quotes, because many parsers lose digits of 19-digit numbers.
        str, BaseId("the id of the knowledge base, in quotes", "1734786402936664064")
    ]
    chat_model: Annotated[
        str,
        chat_model(
            "[answers questions](targets/zhipu.md#without-an-application) without an application", "none"
        ),
    ] = "glm-4-flash"
    search: Annotated[ZhipuSearchConfig, About("settings of [searches](targets/zhipu.md#searches)")] = field(
        default_factory=ZhipuSearchConfig
    )
    max_bytes: Annotated[int, Bytes("refuse files larger than this", least=1)] = 100_000_000
    callback_base: Annotated[
        str | None,
        BaseUrl(
            "the listener's public URL, so that the service can call `{callback_base}/callback/…` "
            "([callbacks](targets/zhipu.md#callbacks)); needs `http`"
        ),
    ] = None
    callback_authorization: Annotated[
        Secret | None,
        Confidential(
            "the `Authorization` header that the service sends with its calls, for a gateway",
            r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?",
            "the whole value of the header, such as Bearer …",
        ),
    ] = None

    opens: ClassVar[str] = "kbsync.targets.zhipu.target:ZhipuTarget"
    id_setting: ClassVar[str] = "knowledge_id"
    room_for_path: ClassVar[int] = 60
    document_settings: ClassVar[Mapping[str, ValueKind]] = SLICING

    def conflicts(self, mirror: MirrorConfig, loc: Loc) -> Iterator[Conflict]:
        """Yield conflicts within the block at `loc`."""
        yield from RemoteTargetConfig.conflicts(self, mirror, loc)
        signs = self.auth == "jwt" and not self.api_key.absent
        if signs and not _ID_AND_SECRET.fullmatch(self.api_key.reveal()):
            message = (
                "jwt needs an api_key of the form id.secret, because it signs with the secret; set auth: key"
            )
            yield Conflict((*loc, "auth"), message, ((*loc, "api_key"),))
        search, search_loc = self.search, (*loc, "search")
        if search.recall_ratio is not None and search.recall_method != "mixed":
            message = f"doesn't apply to recall_method {search.recall_method}; remove it"
            yield Conflict((*search_loc, "recall_ratio"), message, ((*search_loc, "recall_method"),))

    @classmethod
    def rule_conflicts(cls, match: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield conflicts between the settings of a rule for the documents that its `match` selects."""
        number = settings.get("knowledge_type")
        for key in ("custom_separator", "sentence_size"):
            if key in settings and number != CUSTOM:
                what = f"applies to knowledge_type {CUSTOM} only"
                yield key, f"{what}; also set knowledge_type, or remove this key"
        extension = extension_of(match)
        if extension in LINKS and "word_num_limit" in settings:
            message = f"does not apply to web pages; remove it from the rules for {extension} files"
            yield "word_num_limit", message
        legal = [method for method, extensions in SLICES.items() if extension in extensions]
        if legal and number is not None and number not in legal:
            allowed = f"allowed for these files: {_listed(legal)}"
            yield "knowledge_type", f"{number} does not accept {extension} files; {allowed}"


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


EXTENSIONS = frozenset(extension for extensions in SLICES.values() for extension in extensions)
_CUSTOM_DEFAULTS = {"custom_separator": ["\n"], "sentence_size": 300}  # the service's, for type 5


def slicing_of(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return how to split the document `name`, as fields of a request.

    These are the `settings` (with keys as in `SLICING`) that the document's extension allows.
    """
    extension = extension_of(name)
    # `SLICING` has checked the values, but one rule may apply to files of several formats.
    number = settings.get("knowledge_type", TITLES)
    if extension not in SLICES[number]:
        number = ROWS if extension in SLICES[ROWS] else TITLES
    fields = {"knowledge_type": number}
    if number == CUSTOM:
        fields |= {key: settings.get(key, default) for key, default in _CUSTOM_DEFAULTS.items()}
    if extension not in LINKS:
        fields |= {key: settings[key] for key in ("parse_image", "word_num_limit") if settings.get(key)}
    return fields


def reslicing_of(slicing: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request fields for splitting a stored document again."""
    return {key: slicing[key] for key in ("knowledge_type", *_CUSTOM_DEFAULTS) if key in slicing}


def recipe_of(slicing: Mapping[str, Any]) -> str | None:
    """Return the recipe of a sent or listed document, or None if the list doesn't contain enough information.

    A recipe is short and readable, such as `k1`, `k3`, `k5:1f0c9a3b`, `k1:images` or `k1!w500`. The list
    doesn't include the word limit, so if the state is lost, kbsync uploads documents with a word limit again.
    """
    # Every user's state contains these texts; a different form would upload everything again.
    number, images = slicing["knowledge_type"], slicing.get("parse_image", False)
    rule = [slicing.get(key) for key in _CUSTOM_DEFAULTS]
    if number is None or images is None or (number == CUSTOM and not all(rule)):
        return None
    custom = f":{hashlib.sha256(json.dumps(rule).encode()).hexdigest()[:8]}" if number == CUSTOM else ""
    limit = f"!w{slicing['word_num_limit']}" if "word_num_limit" in slicing else ""
    return f"k{number}{custom}{':images' if images else ''}{limit}"


def describe_recipe(recipe: str) -> str:
    """Return the settings that a recipe encodes, as text, or "" if the recipe has a different form."""
    match = re.fullmatch(r"k(\d)(?::([0-9a-f]{8}))?(:images)?(?:!w(\d+))?", recipe)
    if match is None:
        return ""
    custom = f" (separators and size {match[2]})" if match[2] else ""
    limit = f" and word_num_limit {match[4]}" if match[4] else ""
    return f"knowledge_type {match[1]}{custom}{' with parse_image' if match[3] else ''}{limit}"
