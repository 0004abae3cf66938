"""Reading what comes with an upload or a re-slice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kbsync_standin.messages import Request, Response
from kbsync_standin.zhipu import strict
from kbsync_standin.zhipu.answers import Refusal, no_route
from kbsync_standin.zhipu.behaviour import Behaviour
from kbsync_standin.zhipu.calling import Callback
from kbsync_standin.zhipu.documents import Slicing
from kbsync_standin.zhipu.multipart import MalformedBody, Part, boundary_of, parse
from kbsync_standin.zhipu.strict import Breach, Rules

_SLICING_FIELDS = frozenset({"knowledge_type", "custom_separator", "sentence_size"})
_RESLICE_FIELDS = strict.CALLBACK_FIELDS | _SLICING_FIELDS
_FIELDS = _RESLICE_FIELDS | {"files", "parse_image", "word_num_limit", "req_id"}
_RESLICE_TESTS = {
    **strict.CALLBACK_TESTS,
    "knowledge_type": strict.is_whole,
    "custom_separator": strict.are_texts,
    "sentence_size": strict.is_whole,
}


@dataclass(frozen=True, slots=True)
class UploadForm:
    """One file and how it is to be cut."""

    name: str
    content: bytes
    slicing: Slicing
    parse_image: bool
    callback: Callback | None = None
    word_limit: int = 0


def upload_form(request: Request, behaviour: Behaviour, now: float) -> UploadForm:
    """The form of an upload. Raises `Breach`, or `Refusal` (HTTP 415) where it is no form at all."""
    rules = Rules(behaviour.strict)
    boundary = boundary_of(request.headers.get("content-type", ""))
    if boundary is None:
        response: Response = no_route(request.path, behaviour, now, 415)
        raise Refusal(response, "the content type is not multipart/form-data with a boundary")
    try:
        return _read(parse(boundary, request.body), rules)
    except MalformedBody as malformed:
        raise Breach(str(malformed)) from None


def _read(parts: list[Part], rules: Rules) -> UploadForm:
    rules.only((part.name for part in parts), _FIELDS, "the form field")
    file = _file(parts, rules)
    fields = {part.name: part for part in parts if part.name not in ("files", "custom_separator")}
    plain = [part for part in parts if part.name not in ("files", "custom_separator")]
    rules.should(len(plain) == len(fields), "a form field comes twice")
    separators = _separators([part.text for part in parts if part.name == "custom_separator"], rules)
    texts = {name: part.text for name, part in fields.items()}
    slicing = Slicing(
        _number(texts, "knowledge_type", 0, rules), separators, _number(texts, "sentence_size", 300, rules)
    )
    given = set(texts) | ({"custom_separator"} if separators else set())
    strict.check_slicing(slicing, file.filename or "", given, rules)
    _check_rest(texts, rules)
    parse_image = texts.get("parse_image") == "true"
    callback = callback_of({**texts, "callback_header": json.loads(texts.get("callback_header", "{}"))})
    limit = int(texts.get("word_num_limit", "0"))
    return UploadForm(file.filename or "", file.content, slicing, parse_image, callback, limit)


def callback_of(fields: Mapping[str, Any]) -> Callback | None:
    """The address that wants to be called, where checked `fields` have one."""
    url = fields.get("callback_url")
    headers = {str(name): str(value) for name, value in fields.get("callback_header", {}).items()}
    return Callback(url, headers) if url else None


def _file(parts: list[Part], rules: Rules) -> Part:
    files = [part for part in parts if part.name == "files"]
    rules.must(bool(files), "the form field files is missing")
    rules.should(len(files) == 1, f"{len(files)} files were sent in one request")
    file = files[0]
    rules.must(not file.only_extended, "the file's name came as filename* alone")
    rules.must(bool(file.filename), "the form field files has no file name")
    return file


def _separators(texts: list[str], rules: Rules) -> tuple[str, ...]:
    """One JSON text field, one plain field, or repeated fields."""
    if len(texts) != 1:
        return tuple(texts)
    try:
        value: Any = json.loads(texts[0])
    except ValueError:
        value = texts
    if not isinstance(value, list):  # such as a plain 1
        value = texts
    rules.must(strict.are_texts(value), f"custom_separator is {texts[0]!r:.80}")
    return tuple(value)


def _number(texts: dict[str, str], name: str, default: int, rules: Rules) -> int:
    text = texts.get(name, str(default))
    rules.must(strict.is_digits(text), f"{name} is {text!r:.80}, not a whole number")
    return int(text)


def _check_rest(texts: dict[str, str], rules: Rules) -> None:
    parse_image = texts.get("parse_image", "false")
    rules.must(parse_image in ("true", "false"), f"parse_image is {parse_image!r:.80}, not true or false")
    limit = texts.get("word_num_limit", "0")
    rules.must(strict.is_digits(limit), f"word_num_limit is {limit!r:.80}, not digits")
    rules.must(strict.is_address(texts.get("callback_url", "http://")), "callback_url is not an address")
    header = texts.get("callback_header", "{}")
    rules.must(_is_json_object(header), f"callback_header is {header!r:.80}, not a JSON object")


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def reslice_form(request: Request, name: str, behaviour: Behaviour) -> Slicing:
    """How the document kept under `name` is to be cut anew. Raises `Breach`."""
    rules = Rules(behaviour.strict)
    body = strict.json_body(request, _RESLICE_FIELDS, rules)
    strict.check_needed(body, ("knowledge_type",), rules)
    strict.check_values(body, _RESLICE_TESTS, rules)
    separators = tuple(body.get("custom_separator", ()))
    slicing = Slicing(body["knowledge_type"], separators, body.get("sentence_size", 300))
    strict.check_slicing(slicing, name, body.keys(), rules)
    return slicing
