"""What a mirror's config says of its target, as this target takes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kbsync.core.model import Limits
from kbsync.errors import UsageError
from kbsync.targets.gptbots.formats import EXTENSIONS, LARGEST, LARGEST_PDF

MOST_FILES = 10
"""Documents in one request: 20 are documented, production refused 20 and took 10."""

MARKER_BASE = "https://kbsync.invalid"

_GRACE_POLLS, _LONGEST_GRACE = 10, 10.0
_UNHURRIED, _SHARE = 10.0, 0.1
"""Seconds between requests that nobody waits for, and their share of `requests_per_minute`."""


@dataclass(frozen=True, slots=True)
class GptbotsSettings:
    """Times in seconds, sizes in bytes, 0 for no limit of ours. `base_url` is in its canonical form.

    `prefix` stands before every path, `source_url_prefix` before that in the marker. `mirror` is named in
    the commands that cure; `is_first`: see `Endpoint`. Raises `UsageError` for a key no header can carry.
    """

    base_url: str
    api_key: str = field(repr=False)
    knowledge_base_id: str
    concurrency: int = 4
    requests_per_minute: int = 0
    upload_bytes_per_second: int = 0
    poll_first: float = 1.0
    poll_longest: float = 15.0
    give_up: float = 1800.0
    reembed_tries: int = 3
    ca_file: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    max_bytes: int = LARGEST_PDF
    source_url_prefix: str = MARKER_BASE
    prefix: str = ""
    mirror: str = ""
    is_first: bool = False

    def __post_init__(self) -> None:
        key = self.api_key
        if not (key and key.isascii() and key.isprintable() and " " not in key):
            raise UsageError("api_key is empty or has characters that no key has; copy it anew")

    @property
    def limits(self) -> Limits:
        """What the target takes."""
        return Limits(
            extensions=EXTENSIONS,
            max_bytes=min(self.max_bytes, LARGEST),
            max_bytes_by_extension={"pdf": min(self.max_bytes, LARGEST_PDF)},
            batch=MOST_FILES,
            concurrency=self.concurrency,
            list_lag=1.0,
            marks=True,
            reembed_tries=self.reembed_tries,
            give_up=self.give_up,
            poll_first=self.poll_first,
            poll_longest=self.poll_longest,
            unhurried=self._unhurried,
        )

    @property
    def grace(self) -> float:
        """Seconds after an update during which a failure may be that of the version before."""
        return min(_LONGEST_GRACE, _GRACE_POLLS * self.poll_first)

    @property
    def _unhurried(self) -> float:
        if self.requests_per_minute <= 0:
            return _UNHURRIED
        return max(_UNHURRIED, 60.0 / (_SHARE * self.requests_per_minute))

    def command(self, words: str) -> str:
        """A command line about this mirror: what to run once the cause of a halt is gone."""
        return f"kbsync {words} --mirror {self.mirror}" if self.mirror else f"kbsync {words}"
