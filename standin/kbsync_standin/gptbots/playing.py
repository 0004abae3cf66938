"""What a fault makes of an answer, and what requests and answers have in common."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from kbsync_standin.faults import Fault
from kbsync_standin.gptbots.strict import Breach
from kbsync_standin.messages import Request, Response


class Refused(Breach):
    """A refusal that is not the client's mistake."""

    def __init__(self, words: str) -> None:
        super().__init__(words, is_ours=False)


class NoBase(Refused):
    """The base is not there (any more)."""


def ids_in(request: Request) -> list[str]:
    """Ids in the query, repeated or joined; one that was encoded together is one odd id."""
    pairs = parse_qsl(urlsplit(request.raw_target).query)
    repeated = [value for name, value in pairs if name == "data_ids"]
    return repeated + [one for name, value in pairs if name == "doc" for one in value.split(",") if one]


def arg_of(fault: Fault | None, name: str) -> Any:
    """An argument of a fault that is played; None where there is none."""
    return None if fault is None else fault.args.get(name)


def hits(fault: Fault | None, kind: str, name: str) -> bool:
    """A fault of this kind is played on a file of this name."""
    return fault is not None and fault.kind == kind and fnmatchcase(name, str(fault.args.get("name", "*")))


def renamed(name: str) -> str:
    """As services call a name that they have already."""
    stem, _, extension = name.rpartition(".")
    return f"{stem} (1).{extension}"


def shown(status: str, fault: Fault | None) -> dict[str, Any]:
    """The field of the status."""
    if fault is None or fault.kind != "data-status":
        return {"data_status": status}
    return {} if fault.args.get("missing") else {"data_status": fault.args.get("value")}


def early_answer(fault: Fault) -> Response | None:
    """Faults under which nothing is done."""
    match fault.kind:
        case "code":
            return refusal(fault)
        case "bot-deleted":
            return Response.json({"code": 20059, "message": "the bot was deleted"})
        case "rate-limited":
            answer = Response.json({"code": 429, "message": "too many requests"}, 429)
            wish = fault.args.get("retry_after")
            return answer if wish is None else answer.having(retry_after=str(wish))
    return None


def refusal(fault: Fault) -> Response:
    """The code that a fault answers with."""
    code = fault.args.get("code", 50000)
    body = {
        "code": str(code) if fault.args.get("as_string") else code,
        "message": fault.args.get("message", ""),
    }
    return Response.json(body, int(fault.args.get("status", 200)))
