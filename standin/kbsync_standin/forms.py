"""Parses upload forms, `multipart/form-data`, and reports their mistakes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kbsync_standin.messages import Request, Response
from kbsync_standin.rules import Violation

_PARAMETER = re.compile(r';\s*([\w*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"\s]*))')
_ESCAPED = re.compile(r'\\(["\\])')
_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,70})"|([^;,\s"]{1,70}))', re.IGNORECASE)
_FILENAME = re.compile(rb'\bfilename="((?:[^"\\\r\n]|\\.)*)"', re.IGNORECASE)
_BEGINNING_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form. `filename` is None for a plain field.

    `only_extended`: the name came only as `filename*=`, which many servers drop.
    """

    name: str
    content: bytes
    filename: str | None = None
    only_extended: bool = False

    @property
    def text(self) -> str:
        """The content as text. Raises `Violation` if it isn't UTF-8."""
        try:
            return self.content.decode()
        except UnicodeDecodeError:
            raise Violation(f"the form field {self.name} is not UTF-8") from None


def parse_form(boundary: str, body: bytes) -> list[Part]:
    """Parse the parts in order, copying each content once. Raises `Violation`."""
    dashes = b"--" + boundary.encode()
    if not body.startswith(dashes):
        raise Violation("the form does not begin with its boundary")
    parts: list[Part] = []
    position = len(dashes)
    while body[position : position + 2] == b"\r\n":
        end = body.find(b"\r\n" + dashes, position)
        if end < 0:
            raise Violation("the form ends without its closing boundary")
        parts.append(_part(body, position + 2, end))
        position = end + 2 + len(dashes)
    if body[position : position + 2] != b"--":
        raise Violation("the form ends without its closing boundary")
    return parts


def form_in(request: Request, status: int = 400, response: Response | None = None) -> list[Part]:
    """Parse the parts of a request's form. Raises `Violation`, with `status` or `response` if the request has
    no form."""
    content_type = request.headers.get("content-type", "")
    boundary = _BOUNDARY.search(content_type)
    if boundary is None or content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        sentence = "the content type is not multipart/form-data with a boundary"
        raise Violation(sentence, status, response=response)
    return parse_form(boundary[1] or boundary[2], request.body)


def _part(body: bytes, start: int, end: int) -> Part:
    blank = body.find(b"\r\n\r\n", start, end + 2)
    if blank < 0:
        raise Violation("a part of the form has no blank line after its headers")
    for line in body[start:blank].decode("utf-8", "replace").split("\r\n"):
        header, _, value = line.partition(":")
        if header.strip().lower() == "content-disposition":
            break
    else:
        raise Violation("a part of the form has no Content-Disposition")
    parameters = {
        match[1].lower(): match[3] if match[2] is None else _ESCAPED.sub(r"\1", match[2])
        for match in _PARAMETER.finditer(value)
    }
    if "name" not in parameters:
        raise Violation("a part of the form has no name")
    filename = parameters.get("filename")
    only_extended = filename is None and "filename*" in parameters
    return Part(parameters["name"], body[blank + 4 : end], filename, only_extended)


def filename_in(beginning: bytes) -> str:
    """Return the first file name in the beginning of a form; "" if it hasn't arrived yet."""
    match = _FILENAME.search(beginning[:_BEGINNING_BYTES])
    return _ESCAPED.sub(r"\1", match[1].decode("utf-8", "replace")) if match else ""
