"""Which files the vendor takes, how each can be sliced, and the recipe that says so. Pure.

`knowledge_type` (the manual's word) is the way of slicing: 1 titles and paragraphs, 2 questions and answers,
3 rows, 5 separators of one's own, 6 pages, 7 single items. Which of them is legal follows from the
extension of the uploaded name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kbsync.core.links import EXTENSIONS as LINKS
from kbsync.targets.zhipu.config import CUSTOM, ROWS, SLICES, TITLES
from kbsync.targets.zhipu.shapes import ZhipuDocument

EXTENSIONS = frozenset(extension for taken in SLICES.values() for extension in taken)
_SEPARATORS, _SENTENCE_SIZE = ("\n",), 300  # what the vendor takes where type 5 comes without them

_MEDIA = {
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "pdf": "application/pdf",
    "doc": "application/msword",
    "xls": "application/vnd.ms-excel",
    "ppt": "application/vnd.ms-powerpoint",
}


@dataclass(frozen=True, slots=True)
class Slicing:
    """How one document is cut. `separators` and `sentence_size` (characters) only with type 5.

    `word_limit`: what is beyond so many words is left out; None: nothing is. Only an upload can say it.
    """

    knowledge_type: int
    separators: tuple[str, ...] = ()
    sentence_size: int | None = None
    parse_image: bool = False
    word_limit: int | None = None

    @property
    def recipe(self) -> str:
        """Short and readable: `k1`, `k3`, `k5:1f0c9a3b`, `k1:images`, `k1!w500`."""
        custom = f":{_hash(self)}" if self.knowledge_type == CUSTOM else ""
        limit = f"!w{self.word_limit}" if self.word_limit is not None else ""
        return f"k{self.knowledge_type}{custom}{':images' if self.parse_image else ''}{limit}"


def extension_of(name: str) -> str:
    """The lower-case extension of a path or name, without the dot; "" where there is none."""
    last = name.rpartition("/")[2]
    stem, dot, extension = last.rpartition(".")
    return extension.lower() if dot and stem else ""


def media_type(name: str) -> str:
    """The content type a file is sent with."""
    return _MEDIA.get(extension_of(name), "application/octet-stream")


def slicing_of(name: str, settings: Mapping[str, Any]) -> Slicing:
    """What `settings` ask for, as far as it is legal for the extension of `name`; else its default.

    `settings`: `knowledge_type` int, `custom_separator` list of strings or a string, `sentence_size` int
    20 to 2000, `parse_image` bool, `word_num_limit` int from 1; the last two are not for pages.
    """
    extension = extension_of(name)
    wanted = settings.get("knowledge_type")
    images = settings.get("parse_image") is True and extension not in LINKS
    if type(wanted) is not int or extension not in SLICES.get(wanted, ()):
        wanted = ROWS if extension in SLICES[ROWS] else TITLES
    limit = None if extension in LINKS else _word_limit(settings)
    if wanted != CUSTOM:
        return Slicing(wanted, parse_image=images, word_limit=limit)
    return Slicing(CUSTOM, _separators(settings), _sentence_size(settings), images, limit)


def recipe_of(row: ZhipuDocument) -> str | None:
    """The recipe of a listed document; None where the list does not say enough.

    A limit of words is not listed: who has lost his state sends such a document again.
    """
    if row.knowledge_type is None or row.parse_image is None:
        return None
    if row.knowledge_type != CUSTOM:
        return Slicing(row.knowledge_type, parse_image=row.parse_image).recipe
    if not row.separators or row.sentence_size is None:
        return None
    return Slicing(CUSTOM, row.separators, row.sentence_size, row.parse_image).recipe


def described(recipe: str) -> str:
    """The settings that a recipe stands for; '' for what is none of these recipes."""
    found = re.fullmatch(r"k(\d)(?::([0-9a-f]{8}))?(:images)?(?:!w(\d+))?", recipe)
    if found is None:
        return ""
    custom = f" (separators and size {found[2]})" if found[2] else ""
    limit = f" and word_num_limit {found[4]}" if found[4] else ""
    return f"knowledge_type {found[1]}{custom}{' with parse_image' if found[3] else ''}{limit}"


def upload_fields(slicing: Slicing, upload_id: int) -> dict[str, str]:
    """The form fields of an upload besides the file. A list travels as one JSON text."""
    fields = {"knowledge_type": str(slicing.knowledge_type), "req_id": f"kbsync-{upload_id}"}
    if slicing.knowledge_type == CUSTOM:
        fields["custom_separator"] = json.dumps(slicing.separators, ensure_ascii=False)
        fields["sentence_size"] = str(slicing.sentence_size)
    if slicing.parse_image:
        fields["parse_image"] = "true"
    if slicing.word_limit is not None:
        fields["word_num_limit"] = str(slicing.word_limit)
    return fields


def form_of(callback: Mapping[str, object]) -> dict[str, str]:
    """The fields of a callback in a form, where an object travels as one JSON text."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in callback.items()
    }


def link_body(
    knowledge_id: str, address: str, slicing: Slicing, callback: Mapping[str, object]
) -> dict[str, object]:
    """The JSON of `POST /document/upload_url` for one page; `callback`: the fields of one, or none."""
    page = {"url": address, **reslice_body(slicing), **callback}
    return {"knowledge_id": knowledge_id, "upload_detail": [page]}


def reslice_body(slicing: Slicing) -> dict[str, object]:
    """The JSON of `PUT /document/{id}`."""
    body: dict[str, object] = {"knowledge_type": slicing.knowledge_type}
    if slicing.knowledge_type == CUSTOM:
        body |= {"custom_separator": list(slicing.separators), "sentence_size": slicing.sentence_size}
    return body


def _separators(settings: Mapping[str, Any]) -> tuple[str, ...]:
    match settings.get("custom_separator"):
        case str(one) if one:
            return (one,)
        case list() | tuple() as several:
            return tuple(one for one in several if isinstance(one, str) and one) or _SEPARATORS
    return _SEPARATORS


def _sentence_size(settings: Mapping[str, Any]) -> int:
    size = settings.get("sentence_size")
    return size if type(size) is int and 20 <= size <= 2000 else _SENTENCE_SIZE


def _word_limit(settings: Mapping[str, Any]) -> int | None:
    limit = settings.get("word_num_limit")
    return limit if type(limit) is int and limit > 0 else None


def _hash(slicing: Slicing) -> str:
    text = json.dumps([slicing.separators, slicing.sentence_size])
    return hashlib.sha256(text.encode()).hexdigest()[:8]
