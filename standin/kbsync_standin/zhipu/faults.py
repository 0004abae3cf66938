"""The faults of this stand-in, and their effects on a request and a document."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from kbsync_standin.application import Call
from kbsync_standin.faults import Fault
from kbsync_standin.kinds import Arg, Kind, is_status
from kbsync_standin.rules import are_strings, as_word, is_flag, is_measure, is_object, is_string
from kbsync_standin.zhipu.documents import (
    CALLBACK_FORMS,
    CORRUPT,
    HONEST,
    NAME_FORMS,
    PLAIN,
    Calling,
    Disguise,
    FailInfo,
    Failing,
    Phase,
    Script,
)


def _number(meaning: str) -> Arg:
    return Arg(meaning, is_measure)


def _status(default: int) -> Arg:
    return Arg(f"of HTTP ({default})", is_status)


def _flag(meaning: str) -> Arg:
    return Arg(meaning, is_flag)


def _form(*forms: str, default: str) -> Arg:
    return Arg(f"{', '.join(forms)} ({default})", lambda value: as_word(value) in forms)


_RUNS = ("upload", "upload-url", "reembed", "reslice")
_READS = ("detail", "list")
_MISSING = ("404", "code", "null")

_FIELDS = {"set": Arg("{…}", is_object), "missing": Arg("[…]", are_strings)}
_VALUE = {"value": Arg("anything"), "missing": _flag("true: no such field")}
_SHOWN = {
    "name": Arg("only items of this name in a list", is_string),
    "seconds": _number("how long, after an upload or re-embed (no end)"),
}
_INFO = {"code": _number("of failInfo (10001)"), "text": Arg("of failInfo (document corrupt)", is_string)}
_CODE = {"code": Arg("of the business"), "message": Arg("in place of the service's", is_string)}

_REFUSALS: Mapping[str, Kind] = {
    # These refuse a request before any work, whatever `effect` says.
    "rate-limited": Kind(
        "HTTP 429 with a code such as 1302 (default), 1303, 1113, 1304 or 1308; nothing is done",
        args={**_CODE, "retry_after": Arg("the header: seconds or a date")},
    ),
    "unauthorized": Kind("HTTP 401 with a code from 1000 (default) to 1004; nothing is done", args=_CODE),
    "no-right": Kind("HTTP 434, no right to the API; nothing is done", args={"status": _status(434)}),
    "base-gone": Kind(
        "as if the knowledge base were gone", args={"form": _form(*_MISSING, default="as deleted_base")}
    ),
}

_BODIES: Mapping[str, Kind] = {
    "code-in-200": Kind(
        "a business code (500) inside HTTP 200; with 200 or `missing` the rest of the response is as usual",
        args={**_CODE, "as_string": _flag("true: a string"), "missing": _flag("true: no code")},
    ),
    "error-shapes": Kind(
        "a failure in another shape",
        args={
            "shape": _form(
                *("flat", "error-object", "error-int", "no-message", "detail-list", "typed", "string"),
                default="error-object",
            ),
            "code": _number("(500)"),
            "status": _status(500),
        },
    ),
    "envelope": Kind("fields of the envelope are set or missing", args=_FIELDS),
}

_UPLOADS: Mapping[str, Kind] = {
    "failed-info": Kind(
        "the file is in failedInfos and is not stored",
        ("upload", "upload-url"),
        {"reason": Arg("(unsupported type)", is_string), "stored": _flag("true: it is stored anyway")},
    ),
    "both-lists": Kind("the file is in both lists", ("upload", "upload-url")),
    "neither-list": Kind("the file is in neither list", ("upload", "upload-url")),
    "success-null": Kind("successInfos is null", ("upload", "upload-url")),
    "other-name": Kind(
        "the file is stored under another name",
        ("upload",),
        {
            "form": _form(*NAME_FORMS, default="suffixed"),
            "answer": Arg("this name in the answer to the upload alone", is_string),
        },
    ),
    "unlisted": Kind(
        "the list lacks the new document", ("upload", "upload-url"), {"seconds": _number("how long (15)")}
    ),
}

_STATUSES: Mapping[str, Kind] = {
    "stuck": Kind("the status stays 0", _RUNS, {"searchable": _flag("true: searches find it anyway")}),
    "polls": Kind("the first polls show status 0", _RUNS, {"n": _number("(3)")}),
    "fails": Kind(
        "vectorizing fails: status 2",
        _RUNS,
        _INFO
        | {
            "runs": _number("how many runs fail, 0: all (1, so a re-embed succeeds)"),
            "silent": _flag("no failInfo"),
        },
    ),
    "relapse": Kind(
        "1, then 0, then 1 again",
        _RUNS,
        {"after": _number("seconds at 1 (5)"), "back": _number("seconds at 0 (1)")},
    ),
    "fails-later": Kind("1, then 2", _RUNS, {**_INFO, "after": _number("seconds at 1 (5)")}),
    "stat": Kind("embedding_stat has another value", (*_RUNS, *_READS), {**_SHOWN, **_VALUE}),
    "fail-info": Kind("failInfo has another value", (*_RUNS, *_READS), {**_SHOWN, **_VALUE}),
    "callback": Kind(
        "the callback is not as documented: never, twice, of another document, with a wrong status, …",
        _RUNS,
        {"form": _form(*CALLBACK_FORMS, default="never"), "seconds": _number("how late or slowly (5)")},
    ),
    "url": Kind(
        "the signed address is not good",
        (*_RUNS, *_READS),
        {
            **_SHOWN,
            "form": _form("missing", "null", "expired", "wrong", default="missing"),
            "to": Arg("another address", is_string),
        },
    ),
    "fields": Kind("fields of a document are set or missing", (*_RUNS, *_READS), {**_SHOWN, **_FIELDS}),
}

_REST: Mapping[str, Kind] = {
    "detail-missing": Kind(
        "the document has no detail",
        ("upload", "detail"),
        {
            "seconds": _number("how long after an upload (15)"),
            "form": _form(*_MISSING, default="as deleted_detail"),
        },
    ),
    "still-listed": Kind(
        "the list still has the deleted document", ("delete",), {"seconds": _number("how long (no end)")}
    ),
    "keeps-document": Kind("the deletion is confirmed, the document stays", ("delete",)),
    "delete-unknown": Kind(
        "as if the id were unknown", ("delete",), {"form": _form(*_MISSING, "ok", default="404")}
    ),
    "duplicates": Kind(
        "a page repeats the end of the page before", ("list",), {"n": _number("how many (1)")}
    ),
    "left-out": Kind("the list lacks the documents of a name", ("list",), {"name": Arg("(all)", is_string)}),
    "list-null": Kind(
        "the list is null or missing", ("list",), {"form": _form("null", "missing", default="null")}
    ),
    "total": Kind("total has another value (0)", ("list",), _VALUE),
    "stream": Kind(
        "the events of an answer are written or end in another way",
        ("sse-invoke", "chat"),
        {
            "end": _form(
                "finish", "repeated", "no-blank", "no-finish", "error", "interrupted", default="finish"
            ),
            "reason": Arg("chat: finish_reason, such as length or sensitive (stop)", is_string),
            "reasoning": _flag("chat: true: the model reasons first"),
            "crlf": _flag("true: lines end in CR LF"),
            "comments": _flag("true: comments in between"),
            "every": _number("seconds between events (0)"),
        },
    ),
    "pictures": Kind(
        "the images of a document are wrong: none, null, another document's, or malformed",
        ("images",),
        {"form": _form("none", "null", "missing", "others", "malformed", default="none")},
    ),
    "retrieve-empty": Kind("nothing is found", ("retrieve",)),
    "retrieve-null": Kind("data is null", ("retrieve",)),
    "retrieve-no-scores": Kind("scores are missing", ("retrieve",)),
    "retrieve-no-metadata": Kind("metadata is missing", ("retrieve",)),
    "retrieve-deleted": Kind(
        "a passage of a deleted document comes first", ("retrieve",), {"id": Arg("its id", is_string)}
    ),
}

CATALOGUE: Mapping[str, Kind] = {**_REFUSALS, **_BODIES, **_UPLOADS, **_STATUSES, **_REST}

KINDS: Mapping[str, str] = {name: kind.line for name, kind in CATALOGUE.items()}
"""Each kind of fault with one line of explanation."""


def valid_fault(fault: Fault, op: str) -> tuple[Fault, str]:
    """Return `fault` with its valid arguments, and a sentence about its first mistake ("": none).

    The server's own faults have no effect here, nor do invalid arguments.
    """
    kind = CATALOGUE.get(fault.kind)
    if kind is None:
        return Fault(""), ""
    misuse, valid_args = "", {}
    for name, value in fault.args.items():
        if name not in kind.args:
            misuse = f"has no argument {name}; it has {', '.join(kind.args) or 'none'}"
        elif not kind.args[name].takes(value):
            misuse = f"{name} cannot be {value!r}: {kind.args[name].meaning}"
        else:
            valid_args[name] = value
    if kind.ops and op not in kind.ops:
        misuse = f"was injected into {op or 'an unknown route'}, but applies to {', '.join(kind.ops)}"
    return replace(fault, args=valid_args), f"fault {fault.kind}: {misuse}" if misuse else ""


def script_of(call: Call) -> Script:
    """Return the effects of a fault on a document that is stored or vectorized again."""
    info = FailInfo(int(call.arg("code", CORRUPT.code)), str(call.arg("text", CORRUPT.text)))
    match call.fault.kind:
        case "stuck" if call.arg("searchable", False):
            return Script(disguise=Disguise({"embedding_stat": 0}))
        case "stuck":
            return Script(stuck=True)
        case "polls":
            return Script(polls=int(call.arg("n", 3)))
        case "fails":
            silent = call.arg("silent", False)
            return Script(failing=Failing(int(call.arg("runs", 1)) or -1, None if silent else info))
        case "relapse":
            back = float(call.arg("after", 5.0))
            return Script(tail=(Phase(back, 0), Phase(back + float(call.arg("back", 1.0)), 1)))
        case "fails-later":
            return Script(tail=(Phase(float(call.arg("after", 5.0)), 2, info),))
        case "unlisted":
            return Script(unlisted=float(call.arg("seconds", 15.0)))
        case "detail-missing":
            return Script(undetailed=float(call.arg("seconds", 15.0)))
        case "callback":
            return Script(calling=Calling(call.word("form", "never"), float(call.arg("seconds", 5.0))))
    disguise = disguise_of(call)
    return (
        PLAIN
        if disguise is HONEST
        else Script(disguise=disguise, disguised=float(call.arg("seconds", math.inf)))
    )


def disguise_of(call: Call) -> Disguise:
    """Return the wrong values that a fault puts into an item."""
    match call.fault.kind:
        case "stat" | "fail-info":
            name = "embedding_stat" if call.fault.kind == "stat" else "failInfo"
            is_missing = call.arg("missing", False)
            return Disguise(without=(name,)) if is_missing else Disguise({name: call.arg("value", None)})
        case "url" if "to" in call.fault.args:
            return Disguise({"url": call.fault.args["to"]})
        case "url":
            return Disguise(url=call.word("form", "missing"))
        case "fields":
            return Disguise(dict(call.arg("set", {})), tuple(call.arg("missing", ())))
        case _:
            return HONEST
