"""The kinds of fault that the stand-in plays itself."""

from __future__ import annotations

from collections.abc import Mapping

KINDS: Mapping[str, str] = {
    "code": "a business code in place of the answer, nothing done "
    "[args: code (50000), message, status of HTTP (200), as_string: true: the code is a text]",
    "code-after": "the same, after the work was done [args: as code]",
    "rate-limited": "HTTP 429, nothing done [args: retry_after: the header]",
    "unauthorized": "40127, as a key of another region gets it",
    "bot-deleted": "20059",
    "refused-item": "a request with such a file is refused as a whole, 40000 [args: name: glob (*)]",
    "failed-item": "such files stand in `failed` and are not stored [args: name: glob (*)]",
    "both-lists": "such files stand in both lists and are stored [args: name: glob (*)]",
    "neither-list": "such files stand in neither list [args: name: glob (*); stored: true]",
    "no-doc-id": "what was stored is told without its id",
    "other-name": "documents are kept under other names, with (1) added",
    "stuck": "such files are never searchable [args: name: glob (*)]",
    "fails": "such files fail to be indexed [args: name: glob (*)]",
    "shape": "the answer has another shape: an empty object, a list with null in it, null [args: form]",
    "data-status": "data_status is something else (status) [args: value, missing: true: no such field]",
    "left-out": "such documents are left out (status, list) [args: name: glob (*)]",
    "keeps-documents": "the answer to the deletion is ok, the documents stay (delete)",
    "unmarked": "such documents are listed without source_url (list) [args: name: glob (*), cut: true: "
    "without its fragment]",
    "nothing-found": "the search finds nothing (match)",
}
"""Every kind with one line of explanation."""
