"""The vendor's side as the server asks it: the key is checked, a route answers, a fault is played."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from kbsync_standin.faults import Fault
from kbsync_standin.gptbots.behaviour import Behaviour
from kbsync_standin.gptbots.bot import Bot
from kbsync_standin.gptbots.faults import KINDS
from kbsync_standin.gptbots.playing import early_answer, ids_in, refusal
from kbsync_standin.gptbots.routes import ANSWERS, QA_UPDATE, ROUTES
from kbsync_standin.gptbots.shelf import HOME_ID
from kbsync_standin.gptbots.strict import Breach, Sent
from kbsync_standin.messages import Letter, Request, Response, StandInClock

_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')

_RANKING = re.compile(rb'"rerank_version"\s*:\s*("[^"\\]*")')


class GptbotsApplication:
    """One bot with its knowledge bases."""

    name = "gptbots"
    kinds: Mapping[str, str] = KINDS

    def __init__(self, key: str, seed: int, vectorize: tuple[float, float], clock: StandInClock) -> None:
        self.clock = clock
        self._key = key
        self.letters: list[Letter] = []
        self._bot = Bot(seed, Behaviour(vectorize=vectorize), clock)

    @property
    def behaviour(self) -> Behaviour:
        """How it always is."""
        return self._bot.behaviour

    @property
    def violations(self) -> list[str]:
        """What was done against the vendor's rules."""
        return self._bot.violations

    def op(self, request: Request) -> str:
        """The operation; all kinds of documents are added by one."""
        if request.path == QA_UPDATE and not self.behaviour.qa_updates:
            return ""
        return ROUTES.get((request.method, request.path), "")

    def subject(self, request: Request) -> str:
        """The names of the files or documents that it is about, joined with ` | `; of a search, its model."""
        if self.op(request) in ("add", "update"):
            names = [json.loads(text) for text in _NAME.findall(request.body)]
        elif self.op(request) == "match":
            names = [json.loads(text) for text in _RANKING.findall(request.body)]
        else:
            known = self._bot.shelf.documents
            names = [known[one].name for one in ids_in(request) if one in known]
        return " | ".join(names)

    def answer(self, request: Request, fault: Fault | None) -> Response:
        """What the vendor would answer."""
        op = self.op(request)
        try:
            self._check_key(request, fault)
            if not op:
                return Response.json({"code": 404, "message": "no such route"}, 404)
            if fault is not None and (early := early_answer(fault)):
                return early
            response = ANSWERS[op](self._bot, request, fault)
        except Breach as breach:
            if breach.is_ours:
                self.violations.append(f"{op}: {breach}")
            return Response.json({"code": breach.code, "message": str(breach)})
        return refusal(fault) if fault is not None and fault.kind == "code-after" else response

    def set_behaviour(self, switches: Mapping[str, Any]) -> None:
        """Raises `ValueError` for an unknown switch or a wrong value."""
        self._bot.turn(switches)

    def snapshot(self) -> dict[str, Any]:
        """Every document, deleted ones too, and the bases."""
        now = self.clock.now()
        documents = [one.snapshot(now) for one in self._bot.shelf.documents.values()]
        bases = [{"id": key, "settings": dict(one.settings)} for key, one in self._bot.bases().items()]
        return {"documents": documents, "bases": bases}

    def journal(self) -> list[dict[str, Any]]:
        """Effects in order: `stored`, `updated`, `deleted`, `base-made`; `foreign-deleted` by others."""
        return list(self._bot.journal)

    def reset(self) -> None:
        """One empty base again."""
        self._bot.reset()

    def put_foreign(self, args: dict[str, Any]) -> dict[str, Any]:
        """`{"name", "text", "source_url"}` stores a document of somebody else's, `{"delete": id or name}`
        deletes any. Raises `ValueError`."""
        if "delete" in args:
            return {"id": self._bot.delete_by_others(args["delete"]).id}
        name, text = args.get("name"), args.get("text", "")
        if not isinstance(name, str) or not name or not isinstance(text, str):
            raise ValueError('somebody else stores {"name": "guide.md", "text": "…"}')
        sent = Sent(name, text.encode(), str(args.get("source_url", "")))
        return {"id": self._bot.store(sent, HOME_ID, "text", {}, None).id}

    def config_hint(self, url: str) -> str:
        """A mirror into the base that is here."""
        return (
            "mirrors:\n  - name: handbook\n    folder: ./handbook\n    target:\n      type: gptbots\n"
            f"      base_url: {url}\n      api_key: {self._key}\n      knowledge_base_id: {HOME_ID}\n"
        )

    def _check_key(self, request: Request, fault: Fault | None) -> None:
        is_known = request.headers.get("authorization") == f"Bearer {self._key}"
        if "cookie" in request.headers:
            self.violations.append("a cookie was sent")
        is_played = fault is not None and fault.kind == "unauthorized"
        if not is_known or self.behaviour.key_revoked or is_played:
            raise Breach("authentication failed", 40127, is_ours=False)
