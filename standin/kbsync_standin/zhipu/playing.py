"""Faults that concern a whole answer: refusals before anything is done, and spoilt envelopes."""

from __future__ import annotations

from dataclasses import replace

from kbsync_standin.messages import Response
from kbsync_standin.zhipu import answers
from kbsync_standin.zhipu.answers import NO_DATA, Refusal
from kbsync_standin.zhipu.calls import Call
from kbsync_standin.zhipu.plays import Play


def refuse_by_fault(call: Call) -> None:
    """Raises `Refusal` where the fault is one that lets nothing be done."""
    play = call.play
    match play.kind:
        case "rate-limited":
            raise Refusal(_rate_limited(play))
        case "unauthorized":
            raise Refusal(answers.gateway(play.arg("code", 1000), 401, play.word("message", "")))
        case "no-right":
            raise Refusal(answers.gateway(434, play.whole("status", 434)))
        case "base-gone":
            raise Refusal(call.missing(play.word("form", call.behaviour.deleted_base), "知识库"))


def _rate_limited(play: Play) -> Response:
    response = answers.gateway(play.arg("code", 1302), 429, play.word("message", ""))
    after = {"retry-after": play.word("retry_after", "")} if "retry_after" in play.args else {}
    return replace(response, headers={**response.headers, **after})


def wrapped(data: object, call: Call) -> Response:
    """`data` in its envelope, spoilt where the fault says so."""
    play = call.play
    if play.kind == "error-shapes":
        shape = play.word("shape", "error-object")
        return answers.misshapen(shape, play.whole("code", 500), play.whole("status", 500))
    if play.kind == "code-in-200":
        return _with_code(data, call)
    fields = answers.envelope(data, call.behaviour, call.now)
    if play.kind == "envelope":
        fields |= play.arg("set", {})
        fields = {name: value for name, value in fields.items() if name not in play.names("missing")}
    return Response.json(fields)


def _with_code(data: object, call: Call) -> Response:
    play = call.play
    is_missing = bool(play.arg("missing", False))
    code = play.arg("code", 200 if is_missing else 500)
    is_good = str(code) == "200"
    message = play.word("message", answers.OK if is_good else answers.text_of(code))
    written = str(code) if play.arg("as_string", False) else code
    fields = answers.envelope(data if is_good else NO_DATA, call.behaviour, call.now, written, message)
    return Response.json({name: value for name, value in fields.items() if name != "code" or not is_missing})
