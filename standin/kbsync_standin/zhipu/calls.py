"""One request on its way through the vendor's side."""

from __future__ import annotations

from dataclasses import dataclass

from kbsync_standin.messages import Request, Response
from kbsync_standin.zhipu import answers
from kbsync_standin.zhipu.account import Account
from kbsync_standin.zhipu.answers import Refusal
from kbsync_standin.zhipu.behaviour import Behaviour
from kbsync_standin.zhipu.documents import Base, Document
from kbsync_standin.zhipu.plays import Play
from kbsync_standin.zhipu.signing import Signer
from kbsync_standin.zhipu.strict import Rules


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
    def behaviour(self) -> Behaviour:
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

    def written(self, ident: str) -> str | int:
        """An id in the form of the switch `ids`."""
        is_number = self.behaviour.ids == "number" and ident.isdigit()
        return int(ident) if is_number else ident

    def missing(self, form: str, what: str) -> Response:
        """The answer about what is not there."""
        return answers.missing(form, what, self.behaviour, self.now)

    def known_base(self, ident: str) -> Base:
        """The base with this id. Raises `Refusal` where there is none."""
        base = self.account.base(ident)
        if base is None:
            raise Refusal(self.missing(self.behaviour.deleted_base, "知识库"))
        return base

    def known_document(self, ident: str) -> Document:
        """The document with this id. Raises `Refusal` where there is none."""
        document = self.account.document(ident)
        if document is None:
            raise Refusal(self.missing(self.behaviour.deleted_detail, "知识"))
        return document
