"""Loaded first by the workers of tests: some documents take long on them, or end the worker."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from kbsync.contract.target import Body
from kbsync.errors import TargetError
from kbsync.index.cluster import worker
from kbsync.index.document import Chunk, Cut
from kbsync.index.embed import LocalEncoder, Vectors
from kbsync.index.pipeline import Parse, read_and_cut


def read(path: str, body: Body, parse: Parse) -> Cut | TargetError:
    """Read like the product, except for special paths."""
    if "slow" in path:
        time.sleep(0.05)
    if "endless" in path:
        time.sleep(60)
    if "deadly" in path:
        os._exit(9)
    return read_and_cut(path, body, parse)


def begin(self: LocalEncoder, chunks: Sequence[Chunk]) -> Future[Vectors]:
    """Embed like the product, except for special texts."""
    if any("poison" in chunk.embed_text for chunk in chunks):
        raise RuntimeError("index out of bounds")
    return own_begin(self, chunks)


worker.read_and_cut = read
own_begin: Callable[..., Future[Vectors]] = getattr(LocalEncoder, "own_begin", LocalEncoder.begin)
LocalEncoder.own_begin = own_begin  # type: ignore[attr-defined]  # Dask loads this file twice
LocalEncoder.begin = begin  # type: ignore[method-assign]
