"""The config block of `type: zhipu`, the knowledge API of Zhipu BigModel, and the recipes of documents there.

`knowledge_type` (the manual's term) is the service's way of splitting documents: 1 titles and paragraphs, 2
questions and answers, 3 rows, 5 your own separators, 6 pages, 7 single items. The extension of the uploaded
name decides which ones are allowed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from kbsync.config.kinds import (
    About,
    Bytes,
    Choice,
    Fraction,
    RefusedValue,
    ValueKind,
    Whole,
    format_value,
    invalid_value,
)
from kbsync.config.problems import Conflict, Loc
from kbsync.config.secrets import Confidential, Secret
from kbsync.config.target import BaseId, BaseUrl, RemoteTargetConfig, chat_model
from kbsync.core.links import EXTENSIONS as LINKS
from kbsync.core.text import extension_of
from kbsync.dataclass import dataclass

if TYPE_CHECKING:
    from kbsync.config.model import MirrorConfig

BASE_URL = "https://open.bigmodel.cn/api"
_ID_AND_SECRET = re.compile(r"[^.]+\.[^.]+")


class KnowledgeId(BaseId):
    """The config value for a knowledge base's id: a string, because many parsers lose digits of 19-digit
    numbers.
    """

    def read(self, value: object) -> str:
        """Parse the id."""
        # 19 digits don't fit into the 53 bits that many YAML and JSON parsers keep of a number.
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise RefusedValue(f"{format_value(value)} is a number, which loses digits; put quotes around it")
        return super().read(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZhipuSearchConfig:
    """Search settings. None: the service's default."""

    recall_method: Annotated[
        Literal["embedding", "keyword", "mixed"],
        Choice("`embedding` (vectors), `keyword` (words) or `mixed`"),
    ] = "mixed"
    recall_ratio: Annotated[
        int | None,
        Whole("weight of vectors in percent; `mixed` only; default: the service's", least=1, most=99),
    ] = None
    top_n: Annotated[int, Whole("candidate passages", least=1, most=100)] = 100
    rerank_model: Annotated[
        Literal["rerank", "rerank-pro"], Choice("the ranking model for searches with `--rerank`")
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
        if (
            not isinstance(value, list)
            or not value
            or not all(isinstance(item, str) and item for item in value)
        ):
            raise invalid_value(value, 'a list of strings, such as ["\\n\\n"]')
        return value


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
        "characters per chunk; `knowledge_type: 5` only; default: `300`", least=20, most=2000
    ),
    "parse_image": Flag("whether to read images in the document; default: `false`"),
    "word_num_limit": Whole(
        "index only this many words of the document: search won't find the rest; not for link files", least=1
    ),
}
"""Settings of a document rule for this target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZhipuTargetConfig(RemoteTargetConfig):
    """A knowledge base at Zhipu BigModel. Sizes are in bytes; 0 means no limit."""

    type: Annotated[Literal["zhipu"], Choice("`zhipu`: a knowledge base at Zhipu BigModel")] = "zhipu"
    base_url: Annotated[
        str, BaseUrl("the URL of the API; requests go to `{base_url}/llm-application/open/…`")
    ] = BASE_URL
    auth: Annotated[
        Literal["key", "jwt"],
        Choice("send the `key`, or short-lived tokens signed with it (`jwt`), which need a correct clock"),
    ] = "key"
    knowledge_id: Annotated[
        str, KnowledgeId("the id of the knowledge base, in quotes", "1734786402936664064")
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
            "the listener's public URL for the service, which calls `{callback_base}/callback/…` "
            "([callbacks](targets/zhipu.md#callbacks)); needs `http`"
        ),
    ] = None
    callback_authorization: Annotated[
        Secret | None,
        Confidential(
            "the `Authorization` header of the service's calls, for a gateway",
            r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?",
            "the whole value of the header, such as Bearer …",
        ),
    ] = None

    opens: ClassVar[str] = "kbsync.targets.zhipu.target:ZhipuTarget"
    id_setting: ClassVar[str] = "knowledge_id"
    shares_base: ClassVar[bool] = True
    room_for_path: ClassVar[int] = 60
    document_settings: ClassVar[Mapping[str, ValueKind]] = SLICING

    def conflicts(self, mirror: MirrorConfig, loc: Loc) -> Iterator[Conflict]:
        """Yield conflicts within the block, located at `loc`."""
        yield from RemoteTargetConfig.conflicts(self, mirror, loc)
        if (
            self.auth == "jwt"
            and not self.api_key.absent
            and not _ID_AND_SECRET.fullmatch(self.api_key.reveal())
        ):
            message = "jwt needs an api_key of the form id.secret, to sign with the secret; set auth: key"
            yield Conflict((*loc, "auth"), message, ((*loc, "api_key"),))
        if self.search.recall_ratio is not None and self.search.recall_method != "mixed":
            message = f"doesn't apply to recall_method {self.search.recall_method}; remove it"
            method = (*loc, "search", "recall_method")
            yield Conflict((*loc, "search", "recall_ratio"), message, (method,))

    @classmethod
    def rule_conflicts(cls, match: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield conflicts between settings of a rule for the documents that `match`."""
        number = settings.get("knowledge_type")
        for key in ("custom_separator", "sentence_size"):
            if key in settings and number != CUSTOM:
                yield (key, f"applies to knowledge_type {CUSTOM} only; set that as well, or remove this key")
        extension = _extension(match)
        if extension in LINKS and "word_num_limit" in settings:
            yield "word_num_limit", f"does not apply to pages; remove it from the rules for {extension} files"
        extensions = SLICES.get(number) if isinstance(number, int) else None
        if extensions and extension and extension not in extensions:
            legal = [method for method, extensions in SLICES.items() if extension in extensions]
            allowed = (
                f"allowed for it: {_listed(legal)}" if legal else "this target doesn't accept this file type"
            )
            yield "knowledge_type", f"{number} does not accept {extension} files; {allowed}"


def _extension(match: str) -> str:
    """Return the extension of all files that a pattern matches; "" if it may match others, such as a folder's
    files.
    """
    last = match.rpartition("/")[2]
    stem, _, extension = last.rpartition(".")
    known = any(extension.lower() in extensions for extensions in SLICES.values())
    is_surely_one = stem and extension.isalnum() and (known or stem.endswith("*"))
    return extension.lower() if is_surely_one else ""


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


EXTENSIONS = frozenset(extension for extensions in SLICES.values() for extension in extensions)
_SEPARATORS, _SENTENCE_SIZE = ("\n",), 300  # the service's default for type 5


@dataclass(frozen=True, slots=True)
class Slicing:
    """How to split one document. `separators` and `sentence_size` (characters) need type 5.

    `word_limit`: the service ignores words beyond this number; None: no limit. Only an upload can set it.
    """

    knowledge_type: int
    separators: tuple[str, ...] = ()
    sentence_size: int | None = None
    parse_image: bool = False
    word_limit: int | None = None

    @property
    def recipe(self) -> str:
        """The recipe of these settings, short and readable.

        `k1`, `k3`, `k5:1f0c9a3b`, `k1:images`, `k1!w500`.
        """
        # Every user's state contains these texts; a different form would upload everything again.
        rule = json.dumps([self.separators, self.sentence_size]).encode()
        custom = f":{hashlib.sha256(rule).hexdigest()[:8]}" if self.knowledge_type == CUSTOM else ""
        limit = f"!w{self.word_limit}" if self.word_limit is not None else ""
        return f"k{self.knowledge_type}{custom}{':images' if self.parse_image else ''}{limit}"


def slicing_of(name: str, settings: Mapping[str, Any]) -> Slicing:
    """Return how to split the document `name`: the `settings` (keys as in `SLICING`) that its extension
    allows.
    """
    extension = extension_of(name)
    is_page = extension in LINKS
    # `SLICING` has checked the values, but one rule may apply to files of several formats.
    wanted = settings.get("knowledge_type", TITLES)
    if extension not in SLICES[wanted]:
        wanted = ROWS if extension in SLICES[ROWS] else TITLES
    images = settings.get("parse_image", False) and not is_page
    limit = None if is_page else settings.get("word_num_limit")
    if wanted != CUSTOM:
        return Slicing(wanted, parse_image=images, word_limit=limit)
    separators = tuple(settings.get("custom_separator", _SEPARATORS))
    return Slicing(CUSTOM, separators, settings.get("sentence_size", _SENTENCE_SIZE), images, limit)


def recipe_of(
    knowledge_type: int | None,
    separators: tuple[str, ...] | None,
    sentence_size: int | None,
    parse_image: bool | None,
) -> str | None:
    """Return a listed document's recipe; None if the list doesn't say enough.

    The list doesn't include the word limit, so if the state is lost, kbsync uploads documents that have one
    again.
    """
    if knowledge_type is None or parse_image is None:
        return None
    if knowledge_type != CUSTOM:
        return Slicing(knowledge_type, parse_image=parse_image).recipe
    if not separators or sentence_size is None:
        return None
    return Slicing(CUSTOM, separators, sentence_size, parse_image).recipe


def describe_recipe(recipe: str) -> str:
    """Return the settings that a recipe encodes, as text; "" if the recipe has another form."""
    match = re.fullmatch(r"k(\d)(?::([0-9a-f]{8}))?(:images)?(?:!w(\d+))?", recipe)
    if match is None:
        return ""
    custom = f" (separators and size {match[2]})" if match[2] else ""
    limit = f" and word_num_limit {match[4]}" if match[4] else ""
    return f"knowledge_type {match[1]}{custom}{' with parse_image' if match[3] else ''}{limit}"


def upload_fields(slicing: Slicing, upload_id: int) -> dict[str, str]:
    """Return the form fields of an upload, without the file."""
    fields = {"req_id": f"kbsync-{upload_id}", **reslice_body(slicing)}
    fields |= {"parse_image": True} if slicing.parse_image else {}
    fields |= {} if slicing.word_limit is None else {"word_num_limit": slicing.word_limit}
    return form_of(fields)


def form_of(fields: Mapping[str, object]) -> dict[str, str]:
    """Return a form's fields, with lists and objects as JSON text."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in fields.items()
    }


def link_body(
    knowledge_id: str, address: str, slicing: Slicing, callback: Mapping[str, object]
) -> dict[str, object]:
    """Return the JSON body of `POST /document/upload_url` for one web page; `callback`: its callback fields,
    if any.
    """
    page = {"url": address, **reslice_body(slicing), **callback}
    return {"knowledge_id": knowledge_id, "upload_detail": [page]}


def reslice_body(slicing: Slicing) -> dict[str, object]:
    """Return the JSON body of `PUT /document/{id}`."""
    body: dict[str, object] = {"knowledge_type": slicing.knowledge_type}
    if slicing.knowledge_type == CUSTOM:
        body |= {"custom_separator": list(slicing.separators), "sentence_size": slicing.sentence_size}
    return body
