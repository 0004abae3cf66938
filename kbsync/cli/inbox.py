"""What commands leave in the inbox for the process that holds the lock, or for the next pass."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbsync.cli.context import prepare
from kbsync.core.text import printable
from kbsync.installation import Installation, ask
from kbsync.state import lock
from kbsync.state.glance import Tx
from kbsync.state.store import Store


@dataclass(frozen=True, slots=True)
class InboxMessage:
    """One message: `verb` is approve, retry or repair; `args` as the engine's inbox reads them."""

    verb: str
    mirror: str
    args: Mapping[str, Any]


def post(installation: Installation, requests: Sequence[InboxMessage]) -> None:
    """Leave all messages or none in a state that exists. Raises `UsageError` where it cannot be written."""
    prepare(installation)

    def leave(tx: Tx) -> None:
        for request in requests:
            tx.inbox.post(request.verb, request.mirror, request.args, time.time())

    def work(store: Store) -> None:
        store.submit(leave).result()

    ask(installation, work)


def when(installation: Installation) -> str:
    """When the messages are carried out, for a person."""
    if lock.is_held(installation.state_dir):
        return "the running kbsync does it now"
    return printable(f"the next pass does it: {installation.cure('--once')}")
