"""The config block for targets whose index kbsync maintains itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, ClassVar

from kbsync.config.kinds import About, Bytes, Choice
from kbsync.config.problems import Conflict, Loc
from kbsync.config.target import ServiceAddress, TargetConfig
from kbsync.dataclass import dataclass
from kbsync.targets.services.config import EmbeddingConfig, RerankConfig, service_conflicts

if TYPE_CHECKING:
    from kbsync.config.model import MirrorConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedTargetConfig(TargetConfig):
    """Settings for reading, embedding and ranking documents."""

    keeps_index: ClassVar[bool] = True

    type: Annotated[str, Choice("the type of the target")]
    max_bytes: Annotated[int, Bytes("refuse files larger than this", least=1)] = 100_000_000
    embedding: Annotated[EmbeddingConfig, About("how to make [vectors](targets/vectors.md)")] = field(
        default_factory=EmbeddingConfig
    )
    rerank: Annotated[RerankConfig, About("how to rank results")] = field(default_factory=RerankConfig)

    @property
    def services(self) -> Sequence[ServiceAddress]:
        """The services for vectors and ranking, if any."""
        both = (self.embedding, self.rerank)
        addresses = (ServiceAddress(it.base_url, it.ca_file, it.proxy) for it in both if it.base_url)
        return tuple(dict.fromkeys(addresses))

    def conflicts(self, mirror: MirrorConfig, loc: Loc) -> Iterator[Conflict]:
        """Yield conflicts between settings of the block. Overriding methods must yield these, too."""
        yield from service_conflicts(self.embedding, (*loc, "embedding"))
        yield from service_conflicts(self.rerank, (*loc, "rerank"))
