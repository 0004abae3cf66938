"""Reads Jupyter notebooks: prose, code, and the text of the outputs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kbsync.index.document import Parsed
from kbsync.index.read.encoding import decode, separate_controls
from kbsync.index.read.html import read_html
from kbsync.index.read.text import document_title, fenced, tidied
from kbsync.index.read.zip import damaged

MAX_OUTPUT_LENGTH = 4000
"""Maximum length of a cell's output in characters: a printed table may have a million lines."""

_END = 1000


def read_ipynb(raw: bytes) -> Parsed:
    """Return the cells as Markdown. Raises `Rejected` if the file isn't a notebook."""
    try:
        notebook = json.loads(decode(raw))
        if "cells" not in notebook and "worksheets" not in notebook:
            raise ValueError("no cells")
        cells = list(notebook.get("cells", ()))
        for sheet in notebook.get("worksheets", ()):  # of format 3
            cells += sheet.get("cells", ())
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise damaged("the file is not a notebook, or is incomplete") from error
    metadata = _mapping(notebook.get("metadata"))
    language = str(_mapping(metadata.get("language_info")).get("name") or "")
    text = tidied("\n\n".join(part for cell in cells for part in _parts(cell, language)))
    return Parsed(text, title=document_title(str(metadata.get("title") or ""), text))


def _parts(cell: Mapping[str, Any], language: str) -> Iterator[str]:
    source = _join(cell.get("source", cell.get("input", "")))
    if cell.get("cell_type") == "heading":
        yield "#" * int(cell.get("level") or 1) + " " + source
    elif cell.get("cell_type") != "code":
        yield source
    elif source.strip():
        yield fenced(source, language)
    output_text = "\n".join(_output_text(output) for output in cell.get("outputs") or ()).strip()
    if output_text:
        if len(output_text) > MAX_OUTPUT_LENGTH:
            # the end may be the result, or the error after a long log
            output_text = f"{output_text[: MAX_OUTPUT_LENGTH - _END]} …\n{output_text[-_END:]}"
        yield fenced(output_text)


def _output_text(output: Mapping[str, Any]) -> str:
    """Return the text of an output.

    If the output has several formats, use the plain one, unless that only names a Python object for which
    browsers show another format.
    """
    if output.get("output_type") in ("error", "pyerr"):
        return f"{output.get('ename', '')}: {output.get('evalue', '')}"
    data = _mapping(output.get("data"))
    text = _join(output["text"] if "text" in output else data.get("text/plain"))
    is_object = text.startswith("<") and text.rstrip().endswith(">")
    if "text" not in output and (not text or (is_object and len(data) > 1)):
        text = _join(data.get("text/markdown")) or _join(data.get("text/latex"))
        text = text or read_html(_join(data.get("text/html"))).text
    return separate_controls(text).rstrip()


def _join(lines: str | Iterable[str] | None) -> str:
    return lines if isinstance(lines, str) else "".join(str(line) for line in lines or ())


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
