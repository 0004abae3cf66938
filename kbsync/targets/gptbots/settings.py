"""What a mirror's config says of its target, as this target takes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from kbsync.core.links import EXTENSIONS as LINKS
from kbsync.core.links import LARGEST as LARGEST_LINK
from kbsync.core.model import Limits
from kbsync.targets.gptbots.formats import EXTENSIONS, LARGEST, LARGEST_PDF
from kbsync.targets.http.remote import RemoteSettings

MOST_FILES = 10
"""Documents in one request: 20 are documented, production refused 20 and took 10."""

MARKER_BASE = "https://kbsync.invalid"


@dataclass(frozen=True, slots=True)
class SearchWish:
    """What the config wants of every search; None: left to the vendor, and no ranking model."""

    embedding_rate: float | None = None
    doc_correlation: float | None = None
    rerank_version: str | None = None


@dataclass(frozen=True, slots=True)
class GptbotsSettings(RemoteSettings):
    """`base_url` is in its canonical form.

    `prefix` stands before every path, `source_url_prefix` before that in the marker. `qa_update` is
    `replace` or `in_place`.
    """

    knowledge_base_id: str
    max_bytes: int = LARGEST_PDF
    source_url_prefix: str = MARKER_BASE
    prefix: str = ""
    qa_update: str = "replace"
    search: SearchWish = field(default_factory=SearchWish)

    @property
    def limits(self) -> Limits:
        """What the target takes."""
        own = Limits(
            extensions=EXTENSIONS,
            max_bytes=min(self.max_bytes, LARGEST),
            max_bytes_by_extension={
                "pdf": min(self.max_bytes, LARGEST_PDF),
                **dict.fromkeys(LINKS, min(self.max_bytes, LARGEST_LINK)),
            },
            links=LINKS,
            batch=MOST_FILES,
            list_lag=1.0,
            marks=True,
            paid=True,
        )
        return self.limited(own)
