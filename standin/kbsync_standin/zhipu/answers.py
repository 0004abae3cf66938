"""How the vendor answers: the envelope, failures, signed addresses, documents and bases as JSON."""

from __future__ import annotations

import hashlib
import hmac
import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from kbsync_standin.messages import Request, Response
from kbsync_standin.rules import Rules, Test
from kbsync_standin.zhipu.account import Account
from kbsync_standin.zhipu.behaviour import ZhipuBehaviour
from kbsync_standin.zhipu.documents import BYTES_PER_WORD, Base, ZhipuDocument
from kbsync_standin.zhipu.faults import Play, disguise_of
from kbsync_standin.zhipu.rules import FILES, json_body, number_in_query

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


def words_for(code: object) -> str:
    """The vendor's words for a business code."""
    return _MESSAGES.get(str(code), "调用失败")


def gateway(code: object, status: int, message: str = "") -> Response:
    """A failure as the platform's gateway tells it: the code is a string."""
    return Response.json({"error": {"code": str(code), "message": message or words_for(code)}}, status)


def storage(code: str, status: int) -> Response:
    """A failure as the host of the files tells it."""
    body = f"<?xml version='1.0' encoding='utf-8' ?>\n<Error>\n\t<Code>{code}</Code>\n</Error>\n"
    return Response(status, body.encode(), {"content-type": "application/xml"})


def misshapen(shape: str, code: int, status: int) -> Response:
    """A failure in one of the shapes seen here and there."""
    message = words_for(code)
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


VALID_SECONDS = 36_000


class Signer:
    """Makes and checks the addresses under which documents can be read."""

    def __init__(self, secret: str) -> None:
        """`secret`: known to the vendor alone."""
        self._secret = secret.encode()
        self._nonces = itertools.count(1)

    def url(self, origin: str, ident: str, start: float, form: str = "") -> str:
        """The address of document `ident`, good from `start`. `form` `expired` or `wrong`: not good."""
        begin = int(start) - (2 * VALID_SECONDS if form == "expired" else 0)
        span = f"{begin};{begin + VALID_SECONDS}"
        nonce = f"{next(self._nonces):08x}"
        signature = "0" * 32 if form == "wrong" else self._signature(ident, span, nonce)
        escaped = span.replace(";", "%3B")
        return f"{origin}{FILES}{ident}?q-sign-time={escaped}&q-signature={nonce}{signature}"

    def allows(self, ident: str, query: Mapping[str, str], now: float) -> bool:
        """`query` of an address for `ident` is ours, and good at `now`."""
        span, signature = query.get("q-sign-time", ""), query.get("q-signature", "")
        expected = signature[:8] + self._signature(ident, span, signature[:8])
        if not hmac.compare_digest(_utf8(expected), _utf8(signature)):
            return False
        begin, _, end = span.partition(";")
        return int(begin) - 1 <= now < int(end)

    def _signature(self, ident: str, span: str, nonce: str) -> str:
        message = _utf8(f"{ident} {span} {nonce}")
        return hmac.digest(self._secret, message, hashlib.sha256).hex()[:32]


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was let in: its operation, the id in its path, and the fault that is played in it."""

    request: Request
    op: str
    ident: str
    account: Account
    signer: Signer
    play: Play

    @property
    def behaviour(self) -> ZhipuBehaviour:
        """The switches."""
        return self.account.behaviour

    @property
    def now(self) -> float:
        """Seconds since the epoch by the stand-in's clock."""
        return self.account.now

    @property
    def rules(self) -> Rules:
        """How closely it is looked at."""
        return Rules(self.behaviour.strict)

    @property
    def origin(self) -> str:
        """Where the client reaches us, such as `http://127.0.0.1:8080`."""
        return f"http://{self.request.headers.get('host', '127.0.0.1')}"

    def body(self, tests: Mapping[str, Test], needed: Collection[str] = ()) -> Json:
        """The body: JSON with known fields only, whose values pass their tests. Raises `Breach`."""
        body = json_body(self.request, tests.keys(), self.rules)
        self.rules.fields(body, tests, needed)
        return body

    def page(self, size: int = 10) -> tuple[int, int]:
        """Number, from 1 on, and size of the page that is asked for. Raises `Breach`."""
        number = number_in_query(self.request, "page", 1, self.rules)
        size = number_in_query(self.request, "size", size, self.rules)
        return number, min(size, self.behaviour.page_cap or size)

    def dressed(self, fields: Json, optional: Collection[str] = ()) -> Json:
        """`fields` as the switches `sparse` and `extra_fields` leave them."""
        if self.behaviour.sparse == "missing":
            fields = {name: value for name, value in fields.items() if name not in optional}
        elif self.behaviour.sparse == "null":
            fields = {name: None if name in optional else value for name, value in fields.items()}
        return {**fields, **_UNKNOWN_FIELDS} if self.behaviour.extra_fields else fields

    def written(self, ident: str) -> str | int:
        """An id in the form of the switch `ids`."""
        is_number = self.behaviour.ids == "number" and ident.isdigit()
        return int(ident) if is_number else ident

    def envelope(self, data: object, code: object = 200, message: str = OK) -> Json:
        """Data and outcome as the knowledge API wraps them."""
        fields: Json = {} if data is NO_DATA else {"data": data}
        # The vendor's clock in milliseconds.
        fields |= {"code": code, "message": message}
        fields["timestamp"] = int((self.now + self.behaviour.clock_skew) * 1000)
        return self.dressed(fields, ("message", "timestamp"))

    def failure(self, code: int, message: str = "", status: int = 200) -> Response:
        """A failure as the knowledge API tells it."""
        return Response.json(self.envelope(NO_DATA, code, message or words_for(code)), status)

    def missing(self, form: str, what: str) -> Response:
        """The answer about what is not there, in the form `404`, `code`, `null` or `ok`."""
        match form:
            # HTTP 200 is not success: the same absence comes in each of these forms.
            case "null":
                return Response.json(self.envelope(None))
            case "ok":
                return Response.json(self.envelope(NO_DATA))
            case "code":
                return self.failure(400, f"{what}不存在")
            case _:
                return self.failure(404, f"{what}不存在", 404)

    def no_route(self, status: int = 404) -> Response:
        """What the web framework says about a path (404), a method (405), a type (415) it does not know."""
        error = "Not Found" if status == 404 else "Method Not Allowed"
        stamp = int((self.now + self.behaviour.clock_skew) * 1000)
        told = {"timestamp": stamp, "status": status, "error": error, "path": self.request.path}
        return Response.json(told, status)

    def known_base(self, ident: str) -> Base:
        """The base with this id. Raises `Refusal` where there is none."""
        base = self.account.base(ident)
        if base is None:
            raise Refusal(self.missing(self.behaviour.deleted_base, "知识库"))
        return base

    def known_document(self, ident: str) -> ZhipuDocument:
        """The document with this id. Raises `Refusal` where there is none."""
        document = self.account.document(ident)
        if document is None:
            raise Refusal(self.missing(self.behaviour.deleted_detail, "知识"))
        return document


_CHUNKING = frozenset(
    {"min_chunk_size", "max_chunk_size", "chunk_overlap", "custom_separator", "sentence_size"}
)
_OPTIONAL = _CHUNKING | {"url", "length", "knowledge_type", "word_num", "parse_image"}
_TYPES: Mapping[str, Callable[[float], Any]] = {"int": int, "string": str, "float": float}
_OPTIONAL_OF_BASE = frozenset({"word_num", "length", "contextual", "embedding_model", "description"})


def item(document: ZhipuDocument, call: Call) -> Json:
    """A document as list and detail show it; the look is counted, lies are told as faults want them."""
    phase, behaviour, slicing = document.phase(call.now), call.behaviour, document.slicing
    document.count_look()
    disguise = document.disguise_at(call.now)
    is_meant = call.play.arg("name", document.name) in (document.name, document.sent_name)
    if call.op in ("detail", "list") and is_meant:
        disguise = disguise_of(call.play).over(disguise)
    fields: Json = {
        "id": call.written(document.id),
        "name": document.name,
        "url": document.address,
        "length": document.size,
        "min_chunk_size": 1,
        "max_chunk_size": 500,
        "chunk_overlap": 50,
        "knowledge_type": slicing.knowledge_type,
        "custom_separator": list(slicing.separators) or ["\n"],
        "embedding_stat": _TYPES[behaviour.stat_form](phase.stat),
        "word_num": 0,
        "parse_image": int(document.parse_image),
    }
    if behaviour.sentence_size != "absent":
        fields["sentence_size"] = _TYPES[behaviour.sentence_size](slicing.sentence_size)
    if phase.info:
        fields["failInfo"] = {"embedding_code": phase.info.code, "embedding_msg": phase.info.text}
    if not document.address or behaviour.page_urls == "signed":
        fields["url"] = call.signer.url(call.origin, document.id, call.now, disguise.url)
    fields = call.dressed(fields, _OPTIONAL) | dict(disguise.changes)
    if disguise.url == "null":
        fields["url"] = None
    gone = (*disguise.without, "url") if disguise.url == "missing" else disguise.without
    return {name: value for name, value in fields.items() if name not in gone} if gone else fields


def shown(document: ZhipuDocument, now: float) -> Json:
    """A document as tests see it: what is really there, whatever clients are told."""
    phase = document.phase(now)
    return {
        "id": document.id,
        "name": document.name,
        "sent_name": document.sent_name,
        "base": document.base.id,
        "size": document.size,
        "sha256": document.sha256,
        "stat": phase.stat,
        "fail_info": asdict(phase.info) if phase.info else None,
        "knowledge_type": document.slicing.knowledge_type,
        "created_ms": int(document.created * 1000),
        "foreign": document.is_foreign,
        "deleted": document.deleted is not None,
        "address": document.address,
        "visits": document.visits,
    }


def base_item(base: Base, call: Call) -> Json:
    """A knowledge base as list and detail show it."""
    fields: Json = {
        "id": call.written(base.id),
        "embedding_id": base.embedding_id,
        "embedding_model": base.embedding_model,
        "name": base.name,
        "description": base.description,
        "background": base.background,
        "icon": base.icon,
        "contextual": base.contextual,
        "word_num": base.size // BYTES_PER_WORD,
        "length": base.size,
        "document_size": len(base.documents),
    }
    return call.dressed(fields, _OPTIONAL_OF_BASE)
