"""The embedded knowledge base before the first pass has made it: for `plan`, which makes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

from kbsync.contract.mirroring import Base, Listed
from kbsync.targets.local.encoder import Encoder
from kbsync.targets.local.target import Embedding, LocalTarget, limits_of
from kbsync.targets.vectors.settings import ServiceSettings


class Unmade(LocalTarget):
    """Empty, and of an id that no state knows."""

    def __init__(self, embedding: Embedding, max_bytes: int, service: ServiceSettings | None = None) -> None:
        """Only what `limits` and `recipe` need: there is no index to open."""
        self._encoder = Encoder(embedding.type, embedding.path, service)
        self._limits = limits_of(max_bytes, pictures=self._encoder.takes_pictures)

    async def base(self) -> Base:
        """One that no state knows."""
        return Base("", 0)

    async def list(self) -> AsyncIterator[Listed]:
        """Nothing."""
        for row in list[Listed]():
            yield row

    async def aclose(self) -> None:
        """There is nothing to close."""
