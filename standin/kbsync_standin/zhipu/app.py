"""The vendor's application: which call is asked for, who may ask, what is done, how it is answered."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from kbsync_standin.faults import Fault
from kbsync_standin.forms import filename_in
from kbsync_standin.messages import Letter, Request, Response, StandInClock
from kbsync_standin.rules import Breach
from kbsync_standin.zhipu import asking_calls as asking
from kbsync_standin.zhipu import base_calls as bases
from kbsync_standin.zhipu import document_calls as documents
from kbsync_standin.zhipu.account import HOME_ID, Account, add_home, change_by_others, turn_home
from kbsync_standin.zhipu.answers import (
    NO_DATA,
    OK,
    Call,
    Refusal,
    Signer,
    gateway,
    misshapen,
    shown,
    words_for,
)
from kbsync_standin.zhipu.behaviour import ZhipuBehaviour, changed
from kbsync_standin.zhipu.faults import KINDS, play_of
from kbsync_standin.zhipu.rules import FILES, check_head

API = "/api"
PREFIX = f"{API}/llm-application/open"
PLATFORM = "/paas/v4"
"""Paths that begin so are of the platform and come behind `API`, the others behind `PREFIX`."""

ROUTES = (
    # Fixed paths come before `{id}`, with which they share their beginning.
    ("POST", "/document/upload_document/{id}", "upload", documents.upload),
    ("POST", "/document/upload_url", "upload-url", documents.upload_url),
    ("POST", "/document/embedding/{id}", "reembed", documents.reembed),
    ("POST", "/document/slice/image_list/{id}", "images", documents.list_images),
    ("GET", "/document", "list", documents.list_documents),
    ("GET", "/document/{id}", "detail", documents.show_document),
    ("DELETE", "/document/{id}", "delete", documents.delete_document),
    ("PUT", "/document/{id}", "reslice", documents.reslice),
    ("POST", "/knowledge/retrieve", "retrieve", documents.retrieve),
    ("POST", "/paas/v4/chat/completions", "chat", asking.chat),
    ("GET", "/embedding", "models", bases.list_models),
    ("GET", "/application", "applications", asking.list_applications),
    ("POST", "/application", "create-application", asking.create_application),
    ("GET", "/application/{id}", "application", asking.show_application),
    ("PUT", "/application/{id}", "edit-application", asking.edit_application),
    ("DELETE", "/application/{id}", "delete-application", asking.delete_application),
    ("POST", "/model-api/{id}/invoke", "invoke", asking.invoke),
    ("POST", "/model-api/{id}/sse-invoke", "sse-invoke", asking.sse_invoke),
    ("GET", "/v2/{id}/slice_info", "slice-info", asking.slice_info),
    ("GET", "/callback", "callback", bases.show_callback),
    ("PUT", "/callback", "set-callback", bases.set_callback),
    ("DELETE", "/callback", "delete-callback", bases.remove_callback),
    ("GET", "/knowledge/capacity", "capacity", bases.show_capacity),
    ("GET", "/knowledge", "bases", bases.list_bases),
    ("POST", "/knowledge", "create-base", bases.create_base),
    ("GET", "/knowledge/{id}", "base", bases.show_base),
    ("PUT", "/knowledge/{id}", "edit-base", bases.edit_base),
    ("DELETE", "/knowledge/{id}", "delete-base", bases.delete_base),
)


def _pattern(path: str) -> re.Pattern[str]:
    before = API if path.startswith(PLATFORM) else PREFIX
    return re.compile(re.escape(before + path).replace(r"\{id\}", "([^/]+)"))


_PATTERNS = (
    ("GET", re.compile(re.escape(FILES) + "([^/]+)"), "file"),
    *((method, _pattern(path), op) for method, path, op, _ in ROUTES),
)
_CALLS: Mapping[str, Callable[[Call], object]] = {
    "file": documents.read_file,
    **{op: call for _, _, op, call in ROUTES},
}


@lru_cache(maxsize=4096)  # asked three times for each request
def _route(method: str, path: str) -> tuple[str, str]:
    """The operation that `method` on `path` asks for ("": none), and the id in the path ("": none)."""
    for wanted, pattern, op in _PATTERNS:
        if wanted == method and (found := pattern.fullmatch(path)):
            return op, found[1] if found.groups() else ""
    return "", ""


_TOLERANCE_MS = 300_000


def _objection(header: str | None, key: str, now: float) -> int:
    """The business code (1000 to 1003) that an `Authorization` header meets; 0: it is good.

    `now`: seconds since the epoch by the vendor's clock.
    """
    if not header:
        return 1001
    scheme, _, credential = header.partition(" ")
    if scheme != "Bearer" or not credential or credential != credential.strip():
        return 1002
    # A key has one dot, a token made of it has two: both are documented as `Bearer`.
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
    expires, made = payload.get("exp"), payload.get("timestamp")
    if not isinstance(expires, int) or not isinstance(made, int):
        return 1002
    # Both are milliseconds: seconds look long expired.
    return 1003 if expires <= now * 1000 or made > now * 1000 + _TOLERANCE_MS else 0


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _read_piece(piece: str) -> dict[str, Any] | None:
    try:
        value = json.loads(base64.urlsafe_b64decode(piece + "=" * (-len(piece) % 4)))
    except (ValueError, binascii.Error):
        return None
    return value if isinstance(value, dict) else None


def _wrapped(data: object, call: Call) -> Response:
    """`data` in its envelope, spoilt where the fault says so."""
    play = call.play
    if play.kind == "error-shapes":
        shape = play.word("shape", "error-object")
        return misshapen(shape, play.whole("code", 500), play.whole("status", 500))
    if play.kind == "code-in-200":
        return _with_code(data, call)
    fields = call.envelope(data)
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
    fields = call.envelope(data if is_good else NO_DATA, written, message)
    return Response.json({name: value for name, value in fields.items() if name != "code" or not is_missing})


_PAID = frozenset({"upload", "upload-url", "reembed", "reslice", "retrieve", "invoke", "sse-invoke", "chat"})
_SWITCHED = (
    {"file": "url"}
    | {f"{verb}application": "applications" for verb in ("", "create-", "edit-", "delete-")}
    | {f"{verb}callback": "callback" for verb in ("set-", "delete-")}
)
"""Operations that are switched off under another name."""


class ZhipuApplication:
    """Documents in memory behind the vendor's interface, in one empty knowledge base, `HOME_ID`, at first.

    `key`: the only API key it knows. `seed`: of everything left to chance. `vectorize`: least and most
    seconds from an upload until the document is searchable. `clock`: real time by default. Asked by one
    thread at a time.
    """

    name = "zhipu"
    kinds: Mapping[str, str] = KINDS

    def __init__(
        self,
        key: str = "id.secret-for-tests",
        seed: int = 0,
        vectorize: tuple[float, float] = (0.0, 0.0),
        clock: StandInClock | None = None,
    ) -> None:
        """Raises `ValueError` for a wrong `vectorize`."""
        self.clock = clock or StandInClock()
        self.violations: list[str] = []
        self._key = key
        self._seed = seed
        self._first = changed(ZhipuBehaviour(), {"vectorize": vectorize})
        self._signer = Signer(key)
        self.letters: list[Letter] = []
        self.account = self._opened()

    def _opened(self) -> Account:
        self.letters.clear()
        account = Account(self._first, self.clock, self._seed, self.letters)
        add_home(account)
        account.entries.clear()
        return account

    @property
    def behaviour(self) -> ZhipuBehaviour:
        """The switches."""
        return self.account.behaviour

    @behaviour.setter
    def behaviour(self, behaviour: ZhipuBehaviour) -> None:
        before = self.behaviour
        self.account.behaviour = behaviour
        if behaviour.base != before.base:
            turn_home(self.account, behaviour.base)

    def set_behaviour(self, switches: Mapping[str, Any]) -> None:
        """Change switches. Raises `ValueError` for an unknown one or a wrong value; then none is changed."""
        self.behaviour = changed(self.behaviour, switches)

    def op(self, request: Request) -> str:
        """The operation's name, "" for an unknown route."""
        return _route(request.method, request.path)[0]

    def subject(self, request: Request) -> str:
        """The name sent for a document, else the base's id, else ""."""
        op, ident = _route(request.method, request.path)
        match op:
            case "upload":
                return filename_in(request.body)
            case "upload-url":
                return documents.addresses_in(request.body)
            case "list":
                return request.query.get("knowledge_id", "")
            case "detail" | "delete" | "reslice" | "reembed" | "images" | "file":
                document = self.account.documents.get(ident)
                return document.sent_name if document else ""
        return ident

    def answer(self, request: Request, fault: Fault | None) -> Response:
        """Do the work and answer."""
        op, ident = _route(request.method, request.path)
        play, misuse = play_of(fault, op)
        if misuse:
            self.violations.append(misuse)
        call = Call(request, op, ident, self.account, self._signer, play)
        violation = ""
        try:
            response = self._answered(call)
        except Refusal as refusal:
            violation, response = refusal.violation, refusal.response
        except Breach as breach:
            violation = str(breach)
            message = f"{words_for(400)}: {breach}"
            # The platform has codes of its own for it, the knowledge API says 400 in 200.
            is_platform = op == "chat"
            response = gateway(1214, 400, message) if is_platform else call.failure(400, message)
        if violation:
            name = self.subject(request)
            about = f" ({name})" if name else ""
            self.violations.append(f"{request.method} {request.path}{about}: {violation}")
        date = formatdate(call.now + call.behaviour.clock_skew, usegmt=True)
        return replace(response, headers={**response.headers, "date": date})

    def _answered(self, call: Call) -> Response:
        behaviour, play, path = call.behaviour, call.play, call.request.path
        is_off = _SWITCHED.get(call.op, call.op) in behaviour.not_offered
        if is_off or not call.op:
            is_known = any(pattern.fullmatch(path) for _, pattern, _ in _PATTERNS[1:])
            status = 405 if not call.op and is_known else 404
            sentence = "" if is_off else "there is no such route"
            raise Refusal(call.no_route(status), sentence)
        # Addresses of files carry their own proof, and the key must not be sent to their host.
        if call.op != "file":
            vendor_now = call.now + behaviour.clock_skew
            code = _objection(call.request.headers.get("authorization"), self._key, vendor_now)
            if code or behaviour.key_revoked:
                raise Refusal(gateway(code or 1004, 401))
            if behaviour.money_gone and call.op in _PAID:
                raise Refusal(gateway(1113, 429))
        # These faults let nothing be done, whatever their `effect` says.
        match play.kind:
            case "rate-limited":
                refusal = gateway(play.arg("code", 1302), 429, play.word("message", ""))
                after = {"retry_after": play.word("retry_after", "")} if "retry_after" in play.args else {}
                raise Refusal(refusal.having(**after))
            case "unauthorized":
                raise Refusal(gateway(play.arg("code", 1000), 401, play.word("message", "")))
            case "no-right":
                raise Refusal(gateway(434, play.whole("status", 434)))
            case "base-gone":
                raise Refusal(call.missing(play.word("form", behaviour.deleted_base), "知识库"))
        # After the faults: a test of a failure need not send a request that is right.
        check_head(call.request, call.op, call.rules)
        data = _CALLS[call.op](call)
        if isinstance(data, Response) and play.kind not in ("error-shapes", "code-in-200"):
            return data
        return _wrapped(data, call)

    def snapshot(self) -> dict[str, Any]:
        """Every base, and every document that ever was, oldest first."""
        now = self.clock.now()
        return {
            "bases": [
                {"id": base.id, "name": base.name, "documents": len(base.documents), "hidden": base.is_hidden}
                for base in self.account.bases.values()
            ],
            "documents": [shown(document, now) for document in self.account.documents.values()],
        }

    def journal(self) -> list[dict[str, Any]]:
        """Effects in order."""
        return [asdict(entry) for entry in self.account.entries]

    def reset(self) -> None:
        """As at the start: one empty base, first switches, empty journal, no violations."""
        self.account = self._opened()
        self.violations.clear()

    def put_foreign(self, args: dict[str, Any]) -> dict[str, Any]:
        """Somebody else uploads `name` with `text` or `base64`, or deletes the id or name `delete`.

        `base` is a base's id, `knowledge_type` what fits the name by default. Raises `ValueError`.
        """
        return shown(change_by_others(self.account, args), self.clock.now())

    def config_hint(self, url: str) -> str:
        """A config that mirrors a folder into the stand-in under `url`."""
        return (
            "mirrors:\n  - name: handbook\n    folder: ./handbook\n    target:\n      type: zhipu\n"
            f"      base_url: {url}/api\n      api_key: {self._key}\n"
            f'      knowledge_id: "{HOME_ID}"\n'
        )
