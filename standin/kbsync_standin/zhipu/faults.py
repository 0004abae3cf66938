"""The faults of this stand-in."""

from __future__ import annotations

from collections.abc import Mapping

KINDS: Mapping[str, str] = {
    "rate-limited": "HTTP 429 with a code such as 1302 (default), 1303, 1113, 1304 or 1308; nothing is "
    "done [args: code: of the business; message: in place of the service's; retry_after: the header: "
    "seconds or a date]",
    "unauthorized": "HTTP 401 with a code from 1000 (default) to 1004; nothing is done [args: code: of "
    "the business; message: in place of the service's]",
    "no-right": "HTTP 434, no right to the API; nothing is done [args: status: of HTTP (434)]",
    "base-gone": "as if the knowledge base were gone [args: form: 404, code, null (as deleted_base)]",
    "code-in-200": "a business code (500) inside HTTP 200; with 200 or `missing` the rest of the response "
    "is as usual [args: code: of the business; message: in place of the service's; as_string: true: a "
    "string; missing: true: no code]",
    "error-shapes": "a failure in another shape [args: shape: flat, error-object, error-int, no-message, "
    "detail-list, typed, string (error-object); code: (500); status: of HTTP (500)]",
    "envelope": "fields of the envelope are set or missing [args: set: {…}; missing: […]]",
    "failed-info": "the file is in failedInfos and is not stored (upload, upload-url) [args: reason: "
    "(unsupported type); stored: true: it is stored anyway]",
    "both-lists": "the file is in both lists (upload, upload-url)",
    "neither-list": "the file is in neither list (upload, upload-url)",
    "success-null": "successInfos is null (upload, upload-url)",
    "other-name": "the file is stored under another name (upload) [args: form: as_sent, nfc, nfd, "
    "mojibake, basename, suffixed, question_marks (suffixed); answer: this name in the answer to the upload "
    "alone]",
    "unlisted": "the list lacks the new document (upload, upload-url) [args: seconds: how long (15)]",
    "stuck": "the status stays 0 (runs) [args: searchable: true: searches find it anyway]",
    "polls": "the first polls show status 0 (runs) [args: n: (3)]",
    "fails": "vectorizing fails: status 2 (runs) [args: code: of failInfo (10001); text: of failInfo "
    "(document corrupt); runs: how many runs fail, 0: all (1, so a re-embed succeeds); silent: no failInfo]",
    "relapse": "1, then 0, then 1 again (runs) [args: after: seconds at 1 (5); back: seconds at 0 (1)]",
    "fails-later": "1, then 2 (runs) [args: code: of failInfo (10001); text: of failInfo (document "
    "corrupt); after: seconds at 1 (5)]",
    "stat": "embedding_stat has another value (runs, detail, list) [args: name, seconds; value: anything; "
    "missing: true: no such field]",
    "fail-info": "failInfo has another value (runs, detail, list) [args: name, seconds; value: anything; "
    "missing: true: no such field]",
    "callback": "the callback is not as documented: never, twice, of another document, with a wrong "
    "status, … (runs) [args: form: never, twice, other, status, late, slow, malformed (never); seconds: how "
    "late or slowly (5)]",
    "url": "the signed address is not good (runs, detail, list) [args: name, seconds; form: missing, "
    "null, expired, wrong (missing); to: another address]",
    "fields": "fields of a document are set or missing (runs, detail, list) [args: name, seconds; set: "
    "{…}; missing: […]]",
    "detail-missing": "the document has no detail (upload, detail) [args: seconds: how long after an "
    "upload (15); form: 404, code, null (as deleted_detail)]",
    "still-listed": "the list still has the deleted document (delete) [args: seconds: how long (no end)]",
    "keeps-document": "the deletion is confirmed, the document stays (delete)",
    "delete-unknown": "as if the id were unknown (delete) [args: form: 404, code, null, ok (404)]",
    "duplicates": "a page repeats the end of the page before (list) [args: n: how many (1)]",
    "left-out": "the list lacks the documents of a name (list) [args: name: (all)]",
    "list-null": "the list is null or missing (list) [args: form: null, missing (null)]",
    "total": "total has another value (0) (list) [args: value: anything; missing: true: no such field]",
    "stream": "the events of an answer are written or end in another way (sse-invoke, chat) [args: end: "
    "finish, repeated, no-blank, no-finish, error, interrupted (finish); reason: chat: finish_reason, such "
    "as length or sensitive (stop); reasoning: chat: true: the model reasons first; crlf: true: lines end "
    "in CR LF; comments: true: comments in between; every: seconds between events (0)]",
    "pictures": "the images of a document are wrong: none, null, another document's, or malformed "
    "(images) [args: form: none, null, missing, others, malformed (none)]",
    "nothing-found": "nothing is found (retrieve)",
    "retrieve-null": "data is null (retrieve)",
    "retrieve-no-scores": "scores are missing (retrieve)",
    "retrieve-no-metadata": "metadata is missing (retrieve)",
    "retrieve-deleted": "a passage of a deleted document comes first (retrieve) [args: id: its id]",
}
"""Each kind of fault with one line of explanation. `runs` are the calls that index a document: upload,
upload-url, reembed and reslice. `name`: only items of this name in a list; `seconds`: how long, after one of
these calls (no end).
"""
