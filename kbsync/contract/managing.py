"""What a service shows of an account: its knowledge bases and its space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BaseCard:
    """A knowledge base as its account shows it. `size` in bytes; None: the target does not say.

    `settings`: those of the service that it shows, in the form in which `kbsync kb` takes them.
    """

    id: str
    name: str
    description: str = ""
    model: str = ""
    documents: int | None = None
    size: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    words: int | None = None


@dataclass(frozen=True, slots=True)
class Capacity:
    """Bytes of the whole account, and words where the service counts them; None: it does not."""

    used: int
    total: int
    used_words: int | None = None
    total_words: int | None = None
