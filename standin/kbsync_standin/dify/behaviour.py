"""The differences between Dify's installations and versions, and the faults of this stand-in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kbsync_standin.application import Behaviour
from kbsync_standin.kinds import shared_kinds


@dataclass(frozen=True, slots=True)
class DifyBehaviour(Behaviour):
    """The switches that only Dify has.

    fresh: the base has no indexing technique and no process rule yet, like a base that the API created.
    technique_needed: every upload must name the indexing technique, as in older versions.
    external: another service stores the base, which accepts no documents.
    runtime: whether the base is a general one or has its own way to accept documents.
    doc_form: how the base splits documents; uploads with another form are refused.
    deleted: the response to a deletion: 204; or 200 with the number 204 or an object, as in older versions.
    indexing_deletion: whether deleting a document while it is indexed succeeds or fails with
        `document_indexing`.
    max_bytes: `UPLOAD_FILE_SIZE_LIMIT`. unstructured: `ETL_TYPE` is Unstructured.
    files_url: file addresses are complete (set), only a path (missing `FILES_URL`), no valid URL (broken), or
        absent from responses.
    metadata: documents can have metadata; older versions have neither the fields nor the calls.
    """

    fresh: bool = False
    technique_needed: bool = False
    external: bool = False
    runtime: Literal["general", "rag_pipeline", "agent"] = "general"
    doc_form: Literal["text_model", "hierarchical_model", "qa_model"] = "text_model"
    deleted: Literal["204", "number", "object"] = "204"
    indexing_deletion: Literal["done", "refused"] = "done"
    max_bytes: int = 15 << 20
    unstructured: bool = False
    files_url: Literal["set", "missing", "broken", "untold"] = "set"
    metadata: bool = True


KINDS: Mapping[str, str] = {
    **shared_kinds("unauthorized no-id other-name stuck left-out keeps-document shape nothing-found"),
    "error": "an error body in place of the answer, nothing done [args: code (invalid_param), message, "
    "status (400), http: another status of HTTP]",
    "error-after": "the same, after the work was done [args: as error]",
    "rate-limited": "403: the plan's requests of this minute are used up",
    "documents-full": "403: the plan's documents are used up",
    "not-found": "404 about the base, while it is there",
    "no-lock": "500 with the document stored, as when the lock of the base ran out (upload)",
    "fails": "matching files fail to be indexed [args: name: glob (*), error: its words]",
    "hidden": "matching files become disabled when they are indexed [args: name: glob (*), archived: true]",
    "odd-status": "documents have another status (list, detail) [args: value; field: which, missing: true]",
}
"""Each kind of fault with one line of explanation."""
