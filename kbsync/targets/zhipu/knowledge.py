"""The knowledge base itself: whether it is there, which decides what "not found" means for anything in it."""

from __future__ import annotations

from kbsync.contract.mirroring import Base
from kbsync.errors import Halted, NotOffered, Rejected, TargetError
from kbsync.targets.zhipu.api import Api
from kbsync.targets.zhipu.codes import NotFound
from kbsync.targets.zhipu.settings import ZhipuSettings


def is_gone(error: TargetError) -> bool:
    """The vendor has no such thing; true only while the base itself answers (`Knowledge.look`)."""
    return isinstance(error, NotFound) or (isinstance(error, NotOffered) and error.code == "404")


class Knowledge:
    """One knowledge base as the config names it."""

    def __init__(self, settings: ZhipuSettings, api: Api) -> None:
        self._settings, self._api = settings, api

    async def look(self) -> Base:
        """Raises `Halted("knowledge-base-missing")` where there is none, and `TargetError`."""
        try:
            found = await self._api.base()
        except Rejected as error:
            raise self._missing(error.reason, error.code) from error
        if found is None:
            raise self._missing("the vendor answers without any data", "")
        return Base(self._settings.knowledge_id, found.documents, self._settings.address)

    def _missing(self, words: str, code: str) -> Halted:
        return Halted(
            "knowledge-base-missing",
            f"knowledge base {self._settings.knowledge_id} is not at {self._settings.address} for this "
            f"api_key: {words}; correct knowledge_id (or base_url) in the config",
            cure=self._settings.command("retry"),
            code=code,
        )
