"""The vendor's application: who may ask, what is done, how it is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from email.utils import formatdate
from typing import Any

from kbsync_standin.faults import Fault
from kbsync_standin.messages import Letter, Request, Response, StandInClock
from kbsync_standin.zhipu import (
    answers,
    applications,
    asking,
    auth,
    bases,
    callbacks,
    changing,
    chatting,
    foreign,
    linking,
    pictures,
    reading,
    retrieving,
    strict,
    uploading,
)
from kbsync_standin.zhipu.account import Account
from kbsync_standin.zhipu.answers import Refusal
from kbsync_standin.zhipu.behaviour import Behaviour, changed
from kbsync_standin.zhipu.calls import Call
from kbsync_standin.zhipu.faults import KINDS
from kbsync_standin.zhipu.multipart import filename_in
from kbsync_standin.zhipu.playing import refuse_by_fault, wrapped
from kbsync_standin.zhipu.plays import misuse, play_of
from kbsync_standin.zhipu.routes import DOCUMENT_OPS, methods, route
from kbsync_standin.zhipu.shapes import shown
from kbsync_standin.zhipu.signing import Signer
from kbsync_standin.zhipu.strict import Breach

_OPERATIONS: Mapping[str, Callable[[Call], object]] = {
    "upload": uploading.upload,
    "upload-url": linking.upload_url,
    "list": reading.listing,
    "detail": reading.detail,
    "file": reading.file,
    "delete": changing.delete,
    "reembed": changing.reembed,
    "reslice": changing.reslice,
    "retrieve": retrieving.retrieve,
    "chat": chatting.chat,
    "images": pictures.images,
    "capacity": bases.capacity,
    "models": bases.models,
    "applications": applications.listing,
    "application": applications.detail,
    "create-application": applications.create,
    "edit-application": applications.edit,
    "delete-application": applications.delete,
    "invoke": asking.invoke,
    "sse-invoke": asking.sse_invoke,
    "slice-info": asking.slice_info,
    "callback": callbacks.look,
    "set-callback": callbacks.aim,
    "delete-callback": callbacks.remove,
    "bases": bases.listing,
    "base": bases.detail,
    "create-base": bases.create,
    "edit-base": bases.edit,
    "delete-base": bases.delete,
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
        bases.add_home(account)
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
            bases.turn_home(self._account, behaviour.base)

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
            return linking.address_in(request.body)
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
        strict.check_head(call.request, call.op, call.rules)
        data = _OPERATIONS[call.op](call)
        is_whole = isinstance(data, Response) and call.play.kind not in ("error-shapes", "code-in-200")
        return data if isinstance(data, Response) and is_whole else wrapped(data, call)

    def _check_route(self, call: Call) -> None:
        behaviour, path = call.behaviour, call.request.path
        is_off = _SWITCHED.get(call.op, call.op) in behaviour.not_offered
        if is_off or not call.op:
            status = 405 if not call.op and methods(path) else 404
            sentence = "" if is_off else "there is no such route"
            raise Refusal(answers.no_route(path, behaviour, call.now, status), sentence)

    def _check_access(self, call: Call) -> None:
        vendor_now = call.now + call.behaviour.clock_skew
        code = auth.objection(call.request.headers.get("authorization"), self._key, vendor_now)
        if call.behaviour.key_revoked:
            code = code or 1004
        if code:
            raise Refusal(answers.gateway(code, 401))
        if call.behaviour.money_gone and call.op in _PAID:
            raise Refusal(answers.gateway(1113, 429))

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
        return shown(foreign.change(self._account, args), self.clock.now())

    def config_hint(self, url: str) -> str:
        """A config that mirrors a folder into the stand-in under `url`."""
        return (
            "mirrors:\n  - name: handbook\n    folder: ./handbook\n    target:\n      type: zhipu\n"
            f"      base_url: {url}/api\n      api_key: {self._key}\n"
            f'      knowledge_id: "{bases.HOME_ID}"\n'
        )


def _told_of(breach: Breach, call: Call) -> Response:
    """The platform has codes of its own for it, the knowledge API says 400 in 200."""
    message = f"{answers.text_of(400)}: {breach}"
    if call.op == "chat":
        return answers.gateway(1214, 400, message)
    return answers.failure(400, call.behaviour, call.now, message)
