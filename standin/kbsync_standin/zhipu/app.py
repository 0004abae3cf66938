"""The vendor's application: which call is asked for, who may ask, what is done, how it is answered."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from email.utils import formatdate
from typing import Any

from kbsync_standin.faults import Fault
from kbsync_standin.messages import Letter, Request, Response, StandInClock
from kbsync_standin.zhipu.account import HOME_ID, Account, add_home, change_by_others, turn_home
from kbsync_standin.zhipu.answers import (
    NO_DATA,
    OK,
    Call,
    Refusal,
    Signer,
    envelope,
    failure,
    gateway,
    misshapen,
    no_route,
    shown,
    words_for,
)
from kbsync_standin.zhipu.asking_calls import (
    chat,
    create_application,
    delete_application,
    edit_application,
    invoke,
    list_applications,
    show_application,
    slice_info,
    sse_invoke,
)
from kbsync_standin.zhipu.base_calls import (
    create_base,
    delete_base,
    edit_base,
    list_bases,
    list_models,
    remove_callback,
    set_callback,
    show_base,
    show_callback,
    show_capacity,
)
from kbsync_standin.zhipu.behaviour import Behaviour, changed
from kbsync_standin.zhipu.document_calls import (
    address_in,
    delete_document,
    list_documents,
    list_images,
    read_file,
    reembed,
    reslice,
    retrieve,
    show_document,
    upload,
    upload_url,
)
from kbsync_standin.zhipu.faults import KINDS, Play, misuse, play_of
from kbsync_standin.zhipu.rules import DOCUMENT_OPS, Breach, check_head, filename_in, methods, route

_TOLERANCE_MS = 300_000


def objection(header: str | None, key: str, now: float) -> int:
    """The business code (1000 to 1003) that an `Authorization` header meets; 0: it is good.

    `now`: seconds since the epoch by the vendor's clock.
    """
    if not header:
        return 1001
    scheme, _, credential = header.partition(" ")
    if scheme != "Bearer" or not credential or credential != credential.strip():
        return 1002
    if credential.count(".") == 2 and key.count(".") == 1:
        return _objection_to_token(credential, key, now)
    return 0 if hmac.compare_digest(_utf8(credential), _utf8(key)) else 1000


def _objection_to_token(token: str, key: str, now: float) -> int:
    ident, _, secret = key.partition(".")
    signed, _, signature = token.rpartition(".")
    header, _, payload = (_read_piece(piece) for piece in signed.partition("."))
    if header is None or payload is None or (header.get("alg"), header.get("sign_type")) != ("HS256", "SIGN"):
        return 1002
    digest = hmac.digest(_utf8(secret), _utf8(signed), hashlib.sha256)
    good = base64.urlsafe_b64encode(digest).rstrip(b"=")
    if payload.get("api_key") != ident or not hmac.compare_digest(good, _utf8(signature.rstrip("="))):
        return 1000
    return _objection_to_times(payload, now * 1000)


def _objection_to_times(payload: dict[str, Any], now_ms: float) -> int:
    """`exp` and `timestamp` are milliseconds: seconds look long expired."""
    expires, made = payload.get("exp"), payload.get("timestamp")
    if not isinstance(expires, int) or not isinstance(made, int):
        return 1002
    return 1003 if expires <= now_ms or made > now_ms + _TOLERANCE_MS else 0


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _read_piece(piece: str) -> dict[str, Any] | None:
    try:
        value = json.loads(base64.urlsafe_b64decode(piece + "=" * (-len(piece) % 4)))
    except (ValueError, binascii.Error):
        return None
    return value if isinstance(value, dict) else None


def refuse_by_fault(call: Call) -> None:
    """Raises `Refusal` where the fault is one that lets nothing be done."""
    play = call.play
    match play.kind:
        case "rate-limited":
            raise Refusal(_rate_limited(play))
        case "unauthorized":
            raise Refusal(gateway(play.arg("code", 1000), 401, play.word("message", "")))
        case "no-right":
            raise Refusal(gateway(434, play.whole("status", 434)))
        case "base-gone":
            raise Refusal(call.missing(play.word("form", call.behaviour.deleted_base), "知识库"))


def _rate_limited(play: Play) -> Response:
    response = gateway(play.arg("code", 1302), 429, play.word("message", ""))
    after = {"retry-after": play.word("retry_after", "")} if "retry_after" in play.args else {}
    return replace(response, headers={**response.headers, **after})


def wrapped(data: object, call: Call) -> Response:
    """`data` in its envelope, spoilt where the fault says so."""
    play = call.play
    if play.kind == "error-shapes":
        shape = play.word("shape", "error-object")
        return misshapen(shape, play.whole("code", 500), play.whole("status", 500))
    if play.kind == "code-in-200":
        return _with_code(data, call)
    fields = envelope(data, call.behaviour, call.now)
    if play.kind == "envelope":
        fields |= play.arg("set", {})
        fields = {name: value for name, value in fields.items() if name not in play.names("missing")}
    return Response.json(fields)


def _with_code(data: object, call: Call) -> Response:
    play = call.play
    is_missing = bool(play.arg("missing", False))
    code = play.arg("code", 200 if is_missing else 500)
    is_good = str(code) == "200"
    message = play.word("message", OK if is_good else words_for(code))
    written = str(code) if play.arg("as_string", False) else code
    fields = envelope(data if is_good else NO_DATA, call.behaviour, call.now, written, message)
    return Response.json({name: value for name, value in fields.items() if name != "code" or not is_missing})


_OPERATIONS: Mapping[str, Callable[[Call], object]] = {
    "upload": upload,
    "upload-url": upload_url,
    "list": list_documents,
    "detail": show_document,
    "file": read_file,
    "delete": delete_document,
    "reembed": reembed,
    "reslice": reslice,
    "retrieve": retrieve,
    "chat": chat,
    "images": list_images,
    "capacity": show_capacity,
    "models": list_models,
    "applications": list_applications,
    "application": show_application,
    "create-application": create_application,
    "edit-application": edit_application,
    "delete-application": delete_application,
    "invoke": invoke,
    "sse-invoke": sse_invoke,
    "slice-info": slice_info,
    "callback": show_callback,
    "set-callback": set_callback,
    "delete-callback": remove_callback,
    "bases": list_bases,
    "base": show_base,
    "create-base": create_base,
    "edit-base": edit_base,
    "delete-base": delete_base,
}
_PAID = frozenset({"upload", "upload-url", "reembed", "reslice", "retrieve", "invoke", "sse-invoke", "chat"})
_SWITCHED = (
    {"file": "url"}
    | {f"{verb}application": "applications" for verb in ("", "create-", "edit-", "delete-")}
    | {f"{verb}callback": "callback" for verb in ("set-", "delete-")}
)
"""Operations that are switched off under another name."""


class ZhipuApplication:
    """Documents in memory behind the vendor's interface. Asked by one thread at a time."""

    name = "zhipu"
    kinds: Mapping[str, str] = KINDS

    def __init__(self, key: str, seed: int, vectorize: tuple[float, float], clock: StandInClock) -> None:
        """See `application`. Raises `ValueError` for a wrong `vectorize`."""
        self.clock = clock
        self.violations: list[str] = []
        self._key = key
        self._seed = seed
        self._first = changed(Behaviour(), {"vectorize": vectorize})
        self._signer = Signer(key)
        self.letters: list[Letter] = []
        self._account = self._opened()

    def _opened(self) -> Account:
        self.letters.clear()
        account = Account(self._first, self.clock, self._seed, self.letters)
        add_home(account)
        account.entries.clear()
        return account

    @property
    def behaviour(self) -> Behaviour:
        """The switches."""
        return self._account.behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        before = self.behaviour
        self._account.turn(behaviour)
        if behaviour.base != before.base:
            turn_home(self._account, behaviour.base)

    def set_behaviour(self, switches: Mapping[str, Any]) -> None:
        """Change switches. Raises `ValueError` for an unknown one or a wrong value; then none is changed."""
        self.behaviour = changed(self.behaviour, switches)

    def op(self, request: Request) -> str:
        """The operation's name, "" for an unknown route."""
        return route(request.method, request.path).op

    def subject(self, request: Request) -> str:
        """The name sent for a document, else the base's id, else ""."""
        asked = route(request.method, request.path)
        if asked.op == "upload":
            return filename_in(request.body)
        if asked.op == "upload-url":
            return address_in(request.body)
        if asked.op == "list":
            return request.query.get("knowledge_id", "")
        if asked.op in DOCUMENT_OPS:
            document = self._account.documents.get(asked.ident)
            return document.sent_name if document else ""
        return asked.ident

    def answer(self, request: Request, fault: Fault | None) -> Response:
        """Do the work and answer."""
        asked = route(request.method, request.path)
        if sentence := misuse(fault, asked.op):
            self.violations.append(sentence)
        call = Call(request, asked.op, asked.ident, self._account, self._signer, play_of(fault))
        try:
            response = self._answered(call)
        except Refusal as refusal:
            self._note(refusal.violation, call)
            response = refusal.response
        except Breach as breach:
            self._note(str(breach), call)
            response = _told_of(breach, call)
        date = formatdate(call.now + call.behaviour.clock_skew, usegmt=True)
        return replace(response, headers={**response.headers, "date": date})

    def _note(self, violation: str, call: Call) -> None:
        if violation:
            name = self.subject(call.request)
            about = f" ({name})" if name else ""
            self.violations.append(f"{call.request.method} {call.request.path}{about}: {violation}")

    def _answered(self, call: Call) -> Response:
        self._check_route(call)
        if call.op != "file":
            self._check_access(call)
        refuse_by_fault(call)
        check_head(call.request, call.op, call.rules)
        data = _OPERATIONS[call.op](call)
        is_whole = isinstance(data, Response) and call.play.kind not in ("error-shapes", "code-in-200")
        return data if isinstance(data, Response) and is_whole else wrapped(data, call)

    def _check_route(self, call: Call) -> None:
        behaviour, path = call.behaviour, call.request.path
        is_off = _SWITCHED.get(call.op, call.op) in behaviour.not_offered
        if is_off or not call.op:
            status = 405 if not call.op and methods(path) else 404
            sentence = "" if is_off else "there is no such route"
            raise Refusal(no_route(path, behaviour, call.now, status), sentence)

    def _check_access(self, call: Call) -> None:
        vendor_now = call.now + call.behaviour.clock_skew
        code = objection(call.request.headers.get("authorization"), self._key, vendor_now)
        if call.behaviour.key_revoked:
            code = code or 1004
        if code:
            raise Refusal(gateway(code, 401))
        if call.behaviour.money_gone and call.op in _PAID:
            raise Refusal(gateway(1113, 429))

    def snapshot(self) -> dict[str, Any]:
        """Every base, and every document that ever was, oldest first."""
        now = self.clock.now()
        return {
            "bases": [
                {"id": base.id, "name": base.name, "documents": len(base.documents), "hidden": base.is_hidden}
                for base in self._account.bases.values()
            ],
            "documents": [shown(document, now) for document in self._account.documents.values()],
        }

    def journal(self) -> list[dict[str, Any]]:
        """Effects in order."""
        return [asdict(entry) for entry in self._account.entries]

    def reset(self) -> None:
        """As at the start: one empty base, first switches, empty journal, no violations."""
        self._account = self._opened()
        self.violations.clear()

    def put_foreign(self, args: dict[str, Any]) -> dict[str, Any]:
        """Somebody else uploads `name` with `text` or `base64`, or deletes the id or name `delete`.

        `base` is a base's id, `knowledge_type` what fits the name by default. Raises `ValueError`.
        """
        return shown(change_by_others(self._account, args), self.clock.now())

    def config_hint(self, url: str) -> str:
        """A config that mirrors a folder into the stand-in under `url`."""
        return (
            "mirrors:\n  - name: handbook\n    folder: ./handbook\n    target:\n      type: zhipu\n"
            f"      base_url: {url}/api\n      api_key: {self._key}\n"
            f'      knowledge_id: "{HOME_ID}"\n'
        )


def _told_of(breach: Breach, call: Call) -> Response:
    """The platform has codes of its own for it, the knowledge API says 400 in 200."""
    message = f"{words_for(400)}: {breach}"
    if call.op == "chat":
        return gateway(1214, 400, message)
    return failure(400, call.behaviour, call.now, message)
