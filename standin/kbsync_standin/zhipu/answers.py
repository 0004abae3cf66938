"""The forms of answers: the envelope, failures, and what the switches do to them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from kbsync_standin.messages import Response
from kbsync_standin.zhipu.behaviour import Behaviour

Json = dict[str, Any]

OK = "请求成功"
_MESSAGES = {
    "1000": "身份验证失败。",
    "1001": "Header中未收到Authorization参数，无法进行身份验证。",
    "1002": "Authorization Token非法，请确认Authorization Token正确传递。",
    "1003": "Authorization Token已过期，请重新生成/获取。",
    "1004": "通过提供的Authorization Token的验证失败。",
    "1113": "余额不足或无可用资源包,请充值。",
    "1302": "您的账户已达到速率限制，请您控制请求频率",
    "1303": "您当前使用该API的频率过高，请降低频率",
    "1304": "该API已达今日调用次数上限",
    "1308": "已达到使用上限，您的限额将在 2026-12-01 00:00:00 重置。",
    "434": "无API权限",
    "435": "文件大小不能超过100M",
    "400": "参数错误",
    "500": "内部错误",
}
_UNKNOWN_FIELDS = {"traceId": "7f3c", "extension": {"since": "2031", "flags": [1, None]}}


class NoData:
    """In place of `data` where an answer has none."""


NO_DATA: Final = NoData()


class Refusal(Exception):
    """The request is not carried out; `violation` is the rule the client broke, "" if it broke none."""

    def __init__(self, response: Response, violation: str = "") -> None:
        super().__init__(violation)
        self.response = response
        self.violation = violation


def text_of(code: object) -> str:
    """The vendor's words for a business code."""
    return _MESSAGES.get(str(code), "调用失败")


def stamp(behaviour: Behaviour, now: float) -> int:
    """The vendor's clock in milliseconds."""
    return int((now + behaviour.clock_skew) * 1000)


def dressed(fields: Json, behaviour: Behaviour, optional: Collection[str] = ()) -> Json:
    """`fields` as the switches `sparse` and `extra_fields` leave them."""
    if behaviour.sparse == "missing":
        fields = {name: value for name, value in fields.items() if name not in optional}
    elif behaviour.sparse == "null":
        fields = {name: None if name in optional else value for name, value in fields.items()}
    return {**fields, **_UNKNOWN_FIELDS} if behaviour.extra_fields else fields


def envelope(data: object, behaviour: Behaviour, now: float, code: object = 200, message: str = OK) -> Json:
    """Data and outcome as the knowledge API wraps them."""
    fields: Json = {} if data is NO_DATA else {"data": data}
    fields |= {"code": code, "message": message, "timestamp": stamp(behaviour, now)}
    return dressed(fields, behaviour, ("message", "timestamp"))


def failure(code: int, behaviour: Behaviour, now: float, message: str = "", status: int = 200) -> Response:
    """A failure as the knowledge API tells it."""
    return Response.json(envelope(NO_DATA, behaviour, now, code, message or text_of(code)), status)


def gateway(code: object, status: int, message: str = "") -> Response:
    """A failure as the platform's gateway tells it: the code is a string."""
    return Response.json({"error": {"code": str(code), "message": message or text_of(code)}}, status)


def missing(form: str, what: str, behaviour: Behaviour, now: float) -> Response:
    """The answer about what is not there, in the form `404`, `code`, `null` or `ok`."""
    match form:
        case "null":
            return Response.json(envelope(None, behaviour, now))
        case "ok":
            return Response.json(envelope(NO_DATA, behaviour, now))
        case "code":
            return failure(behaviour.missing_code, behaviour, now, f"{what}不存在")
        case _:
            return failure(404, behaviour, now, f"{what}不存在", 404)


def no_route(path: str, behaviour: Behaviour, now: float, status: int = 404) -> Response:
    """What the web framework says about a path (404) or a method (405) it does not know."""
    error = "Not Found" if status == 404 else "Method Not Allowed"
    told = {"timestamp": stamp(behaviour, now), "status": status, "error": error, "path": path}
    return Response.json(told, status)


def storage(code: str, status: int) -> Response:
    """A failure as the host of the files tells it."""
    body = f"<?xml version='1.0' encoding='utf-8' ?>\n<Error>\n\t<Code>{code}</Code>\n</Error>\n"
    return Response(status, body.encode(), {"content-type": "application/xml"})


def misshapen(shape: str, code: int, status: int) -> Response:
    """A failure in one of the shapes seen here and there."""
    message = text_of(code)
    shapes: dict[str, object] = {
        "flat": {"code": code, "message": message},
        "error-object": {"error": {"code": str(code), "message": message}},
        "error-int": {"error": {"code": code, "message": message}},
        "no-message": {"error": {"code": str(code)}},
        "detail-list": {"detail": [{"loc": ["body"], "msg": message, "type": "value_error"}]},
        "typed": {"type": "error", "error": {"type": "api_error", "message": message}},
        "string": message,
    }
    return Response.json(shapes.get(shape, shapes["flat"]), status)
