"""Writes the service's responses: access checks, envelope, errors, signed URLs, documents and bases."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Collection, Mapping
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import quote

from kbsync_standin.application import Call, Json
from kbsync_standin.faults import Fault
from kbsync_standin.messages import Request, Response
from kbsync_standin.rules import Refused, Violation, as_word, require, require_known
from kbsync_standin.zhipu.account import Account
from kbsync_standin.zhipu.documents import BYTES_PER_WORD, ZhipuBase, ZhipuDocument
from kbsync_standin.zhipu.rules import FILES, QUERIES

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


_PAID = frozenset({"upload", "upload-url", "reembed", "reslice", "retrieve", "invoke", "sse-invoke", "chat"})
_SWITCHED = (
    {"file": "url"}
    | {f"{verb}application": "applications" for verb in ("", "create-", "edit-", "delete-")}
    | {f"{verb}callback": "callback" for verb in ("set-", "delete-")}
)
"""Operations whose switch has another name."""


class Null:
    """The result of a call whose response has `data` null; None: it has no `data`."""


NULL: Final = Null()


def words_for(code: object) -> str:
    """Return the service's message for a business code."""
    return _MESSAGES.get(str(code), "调用失败")


def gateway(code: object, status: int, message: str = "") -> Response:
    """Return an error of the platform's gateway, where the code is a string."""
    return Response.json({"error": {"code": str(code), "message": message or words_for(code)}}, status)


def storage(code: str, status: int) -> Response:
    """Return an error of the file host."""
    body = f"<?xml version='1.0' encoding='utf-8' ?>\n<Error>\n\t<Code>{code}</Code>\n</Error>\n"
    return Response(status, body.encode(), {"content-type": "application/xml"})


def misshapen(shape: str, code: int, status: int) -> Response:
    """Return an error in one of the other shapes that were observed."""
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


def _signature(ident: str, span: str, nonce: str) -> str:
    """Return the signature of an address. It begins with `nonce`, because every address has another one."""
    digest = hashlib.sha256(f"{ident} {span} {nonce}".encode("utf-8", "surrogatepass"))
    return nonce + digest.hexdigest()[:32]


_CHUNKING = frozenset(
    {"min_chunk_size", "max_chunk_size", "chunk_overlap", "custom_separator", "sentence_size"}
)
_OPTIONAL = _CHUNKING | {"url", "length", "knowledge_type", "word_num", "parse_image"}
_TYPES: Mapping[str, Callable[[float], Any]] = {"int": int, "string": str, "float": float}
_OPTIONAL_OF_BASE = frozenset({"word_num", "length", "contextual", "embedding_model", "description"})


_TOLERANCE_MS = 300_000


def _objection(header: str | None, key: str, now: float) -> int:
    """Return the business code (1000 to 1003) for an invalid `Authorization` header; 0: it is valid.

    `now`: the service's time in seconds since the epoch.
    """
    if not header:
        return 1001
    scheme, _, credential = header.partition(" ")
    if scheme != "Bearer" or not credential or credential != credential.strip():
        return 1002
    # A key has one dot, a token made from it has two; both are documented as `Bearer`.
    if credential.count(".") == 2 and key.count(".") == 1:
        return _objection_to_token(credential, key, now)
    return 0 if credential == key else 1000


def _objection_to_token(token: str, key: str, now: float) -> int:
    ident, _, secret = key.partition(".")
    signed, _, signature = token.rpartition(".")
    header, _, payload = (_read_piece(piece) for piece in signed.partition("."))
    if header is None or payload is None or (header.get("alg"), header.get("sign_type")) != ("HS256", "SIGN"):
        return 1002
    digest = hmac.digest(secret.encode(), signed.encode(), hashlib.sha256)
    expected = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    if payload.get("api_key") != ident or signature.rstrip("=") != expected:
        return 1000
    expires, created = payload.get("exp"), payload.get("timestamp")
    if not isinstance(expires, int) or not isinstance(created, int):
        return 1002
    # Both are in milliseconds; a token with seconds seems to have expired long ago.
    return 1003 if expires <= now * 1000 or created > now * 1000 + _TOLERANCE_MS else 0


def _read_piece(piece: str) -> dict[str, Any] | None:
    try:
        value = json.loads(base64.urlsafe_b64decode(piece + "=" * (-len(piece) % 4)))
    except (ValueError, binascii.Error):
        return None
    return value if isinstance(value, dict) else None


class Answers(Account):
    """The account and its responses."""

    default_key, api = "id.secret-for-tests", "/api"

    # -- access

    @property
    def service_now(self) -> float:
        """The service's time, in seconds since the epoch."""
        return self.now + self.behaviour.clock_skew

    def admit(self, call: Call) -> None:
        """Check the key; faults that refuse without any work do so here, whatever their `effect`."""
        behaviour, request = self.behaviour, call.request
        if _SWITCHED.get(call.op, call.op) in behaviour.not_offered:
            raise Refused("", response=self.no_such_route(call))
        if not call.op:
            is_known_path = any(candidate.pattern.fullmatch(request.path) for candidate in self.routes)
            response = self.no_such_route(call, 405 if is_known_path else 404)
            raise Violation("there is no such route", response=response)
        refusals = []
        # File addresses carry their own signature, and the key must not be sent to their host.
        if call.op != "file":
            code = _objection(request.headers.get("authorization"), self._key, self.service_now)
            refusals += [gateway(code or 1004, 401)] if code or behaviour.key_revoked else []
            refusals += [gateway(1113, 429)] if behaviour.money_gone and call.op in _PAID else []
        message = call.word("message", "")
        match call.fault.kind:
            case "rate-limited":
                refusals.append(gateway(call.arg("code", 1302), 429, message))
            case "unauthorized":
                refusals.append(gateway(call.arg("code", 1000), 401, message))
            case "no-right":
                refusals.append(gateway(434, call.arg("status", 434)))
            case "base-gone":
                refusals.append(self.missing(call.word("form", behaviour.deleted_base), "知识库"))
        for response in refusals:
            raise Refused("", response=response)

    def check_head(self, call: Call) -> None:
        """Check the request's head, after the faults: a test of a failure may send a wrong request."""
        require("cookie" not in call.request.headers, "a cookie was sent")
        require_known(call.request.query, QUERIES.get(call.op, ()), "the query parameter")

    # -- responses

    def answer(self, request: Request, fault: Fault | None) -> Response:
        """Do the work and return the response, dated by the service's clock."""
        response = super().answer(request, fault)
        return response.having(date=formatdate(self.service_now, usegmt=True))

    def refusal(self, refused: Refused, call: Call) -> Response:
        """Write a refusal: the platform has its own codes, the knowledge API answers code 400 with HTTP
        200.
        """
        message = f"{words_for(400)}: {refused}"
        return gateway(1214, 400, message) if call.op == "chat" else self.failed(400, message)

    def moment_of_failure(self, fault: Fault) -> str:
        """Return `after` for faults that replace the response; "" for others."""
        is_bad = fault.kind == "code-in-200" and str(_code(fault)) != "200"
        return "after" if fault.kind == "error-shapes" or is_bad else ""

    def failure(self, fault: Fault) -> Response:
        """Return the error in the shape or with the code of the fault."""
        if fault.kind == "code-in-200":
            return Response.json(self._coded(None, fault))
        shape, code = as_word(fault.args.get("shape", "error-object")), int(fault.args.get("code", 500))
        return misshapen(shape, code, int(fault.args.get("status", 500)))

    def respond(self, value: Any, call: Call) -> Response:
        """Write a result in its envelope, damaged if the fault requires it."""
        if call.plays("code-in-200"):
            return Response.json(self._coded(value, call.fault))
        fields = self.envelope(value)
        if call.plays("envelope"):
            fields |= call.arg("set", {})
            fields = {name: field for name, field in fields.items() if name not in call.arg("missing", ())}
        return Response.json(fields)

    def _coded(self, data: object, fault: Fault) -> Json:
        code, args = _code(fault), fault.args
        usual = OK if str(code) == "200" else words_for(code)
        message = as_word(args.get("message", usual))
        fields = self.envelope(data, str(code) if args.get("as_string") else code, message)
        return {name: field for name, field in fields.items() if name != "code" or not args.get("missing")}

    def envelope(self, data: object, code: object = 200, message: str = OK) -> Json:
        """Wrap data and outcome in the knowledge API's envelope."""
        fields: Json = {} if data is None else {"data": None if data is NULL else data}
        fields |= {"code": code, "message": message, "timestamp": int(self.service_now * 1000)}
        return self.add_extra_fields(fields, ("message", "timestamp"))

    def add_extra_fields(self, value: Json, optional: Collection[str] = ()) -> Json:
        """Add and drop fields as the switches `sparse` and `extra_fields` say."""
        if self.behaviour.sparse == "missing":
            value = {name: field for name, field in value.items() if name not in optional}
        elif self.behaviour.sparse == "null":
            value = {name: None if name in optional else field for name, field in value.items()}
        return {**value, **_UNKNOWN_FIELDS} if self.behaviour.extra_fields else value

    def id_form_of(self, ident: str) -> str | int:
        """Return an id in the form of the switch `ids`."""
        is_number = self.behaviour.ids == "number" and ident.isdigit()
        return int(ident) if is_number else ident

    def failed(self, code: int, message: str = "", status: int = 200) -> Response:
        """Return an error in the knowledge API's envelope."""
        return Response.json(self.envelope(None, code, message or words_for(code)), status)

    def missing(self, form: str, object_name: str) -> Response:
        """Return the response about a missing object, in the form `404`, `code`, `null` or `ok`."""
        # HTTP 200 doesn't mean success: missing objects can be reported in each of these forms.
        if form in ("null", "ok"):
            return Response.json(self.envelope(NULL if form == "null" else None))
        code = 400 if form == "code" else 404
        return self.failed(code, f"{object_name}不存在", 200 if form == "code" else 404)

    def no_such_route(self, call: Call, status: int = 404) -> Response:
        """Return the web framework's error for an unknown path (404), method (405) or type (415)."""
        error = "Not Found" if status == 404 else "Method Not Allowed"
        error_body = {"timestamp": int(self.service_now * 1000), "status": status, "error": error}
        return Response.json({**error_body, "path": call.request.path}, status)

    def known_base(self, ident: str) -> ZhipuBase:
        """Return the base with this id. Raises `Refused` if there is none."""
        base: ZhipuBase | None = self.visible_bases().get(ident)
        if base is None:
            raise Refused("", response=self.missing(self.behaviour.deleted_base, "知识库"))
        return base

    def known_document(self, call: Call) -> ZhipuDocument:
        """Return the document of the path. Raises `Refused` if there is none."""
        document = self.document(call.ids["id"])
        if document is None:
            raise Refused("", response=self.missing(self.behaviour.deleted_detail, "知识"))
        return document

    def signed(self, call: Call, ident: str, form: str = "") -> str:
        """Return a signed address of a file, valid from now on; `form` `expired` or `wrong`: invalid."""
        begin = int(self.now) - (2 * VALID_SECONDS if form == "expired" else 0)
        span = f"{begin};{begin + VALID_SECONDS}"
        signature = "0" * 40 if form == "wrong" else _signature(ident, span, f"{self.count():08x}")
        return f"{call.origin}{FILES}{ident}?q-sign-time={quote(span)}&q-signature={signature}"

    def is_signed(self, ident: str, query: Mapping[str, str]) -> bool:
        """Return whether `query` belongs to an address of `ident` from `signed` that is valid now."""
        span, signature = query.get("q-sign-time", ""), query.get("q-signature", "")
        begin, _, end = span.partition(";")
        is_ours = signature == _signature(ident, span, signature[:8])
        return is_ours and int(begin) - 1 <= self.now < int(end)

    # -- documents and bases

    def item(self, document: ZhipuDocument, call: Call) -> Json:
        """Describe a document as list and detail do; it counts the poll and applies the faults."""
        phase, behaviour, slicing = document.phase(self.now), self.behaviour, document.slicing
        document.polls = max(0, document.polls - 1)
        fields: Json = {
            "id": self.id_form_of(document.id),
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
            fields["url"] = self.signed(call, document.id)
        fields = self.add_extra_fields(fields, _OPTIONAL)
        for ends, earlier_call in document.distortions:
            if self.now < ends:
                fields = self._distorted(fields, earlier_call, document)
        is_affected = call.arg("name", document.name) in (document.name, document.sent_name)
        return self._distorted(fields, call, document) if is_affected else fields

    def _distorted(self, fields: Json, call: Call, document: ZhipuDocument) -> Json:
        """Return the document's item with the wrong values that the fault of a call puts into it."""
        changes, removed = call.arg("set", {}), call.arg("missing", ())
        match call.fault.kind:
            case "stat" | "fail-info" as kind:
                return call.distort(kind, fields, "embedding_stat" if kind == "stat" else "failInfo")
            case "url":
                form = call.word("form", "missing")
                url = None if form == "null" else self.signed(call, document.id, form)
                changes = {"url": call.arg("to", url)}
                removed = ("url",) if form == "missing" and "to" not in call.fault.args else ()
            case kind if kind != "fields":
                return fields
        changed_fields = fields | changes
        return {name: value for name, value in changed_fields.items() if name not in removed}

    def base_item(self, base: ZhipuBase) -> Json:
        """Describe a knowledge base as list and detail do."""
        same = ("embedding_id", "embedding_model", "name", "description", "background", "icon", "contextual")
        count = len(self.documents_of(base.id))
        sizes = {"word_num": base.size // BYTES_PER_WORD, "length": base.size, "document_size": count}
        fields = {"id": self.id_form_of(base.id), **{name: getattr(base, name) for name in same}, **sizes}
        return self.add_extra_fields(fields, _OPTIONAL_OF_BASE)


def _code(fault: Fault) -> object:
    return fault.args.get("code", 200 if fault.args.get("missing") else 500)
