"""Sending one document, and what became of it."""

from __future__ import annotations

from kbsync.contract.mirroring import Outgoing, PutOutcome
from kbsync.core.links import is_link
from kbsync.errors import NotOffered, Rejected, TargetError, Unsure
from kbsync.targets.http.lacking import Lacking
from kbsync.targets.zhipu.allowance import Allowance
from kbsync.targets.zhipu.api import Api
from kbsync.targets.zhipu.codes import NoRoom, NotFound
from kbsync.targets.zhipu.formats import EXTENSIONS, extension_of, slicing_of
from kbsync.targets.zhipu.knowledge import Knowledge
from kbsync.targets.zhipu.linking import Linking
from kbsync.targets.zhipu.receipts import outcome_of
from kbsync.targets.zhipu.settings import ZhipuSettings
from kbsync.targets.zhipu.sizes import sized


class Uploading:
    """Sends documents one by one; every outcome is returned, none raised."""

    def __init__(
        self,
        settings: ZhipuSettings,
        api: Api,
        knowledge: Knowledge,
        allowance: Allowance,
        lacking: Lacking,
    ) -> None:
        self._settings, self._api = settings, api
        self._knowledge, self._allowance = knowledge, allowance
        self._linking = Linking(api, knowledge, lacking, settings.command("retry"))

    async def put(self, document: Outgoing) -> PutOutcome:
        """One request, never repeated here. Where it lacks room the account is asked who is to blame."""
        outcome = await self._put(document)
        return (
            await self._allowance.judged(outcome, document.size) if isinstance(outcome, NoRoom) else outcome
        )

    async def _put(self, document: Outgoing) -> PutOutcome:
        try:
            if is_link(document.path):
                return await self._linking.put(document)
            self._check(document)
            await self._allowance.take(document.name, document.size)
            return await self._send(document)
        except TargetError as error:
            return error

    def _check(self, document: Outgoing) -> None:
        """Refuse here what the vendor would refuse after all of it was sent."""
        if extension_of(document.name) not in EXTENSIONS:
            known = " ".join(sorted(EXTENSIONS))
            raise Rejected(f"the vendor does not take this format; it takes {known}", code="format")
        most = self._settings.max_bytes
        if document.size > most:
            raise Rejected(f"{sized(document.size)} is over the limit of {sized(most)}", code="too-large")

    async def _send(self, document: Outgoing) -> PutOutcome:
        stored = True
        try:
            outcome = await self._sent(document)
            stored = isinstance(outcome, Unsure) or not isinstance(outcome, TargetError)
            return outcome
        finally:
            self._allowance.ended(document.size, stored=stored)

    async def _sent(self, document: Outgoing) -> PutOutcome:
        try:
            receipt = await self._api.upload(document, slicing_of(document.name, document.settings))
        except (NotFound, NotOffered) as error:
            return await self._without_base(error)
        except TargetError as error:
            return error
        return outcome_of(receipt, document.name, self._settings.command("retry"))

    async def _without_base(self, error: Rejected) -> TargetError:
        """The base may be gone, which is no fault of the document."""
        try:
            await self._knowledge.look()
        except TargetError as missing:
            return missing
        reason = f"refused although the knowledge base is there: {error.reason}"
        # the call itself is not there: what answered was hardly the vendor
        return Rejected(reason, code=error.code, may_pass=isinstance(error, NotOffered))
