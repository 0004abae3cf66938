"""Tests single calls of the target, on a clock that the test sets."""

from __future__ import annotations

from typing import Any

import pytest

from kbsync.accounts.account import account_of
from kbsync.contract.target import DocState
from kbsync.errors import Halted, Rejected
from kbsync_standin.faults import Fault


async def unbegun(served: Any) -> str:
    """Upload a document that isn't parsed for a while, since the server works on others."""
    served.server.faults.add(Fault("code", "parse", times=0, args={"code": 106}))
    [accepted] = await served.target.put([served.document("a.md", "alpha")])
    served.server.advance(20)
    served.server.requests.clear()
    return str(accepted.remote_id)


async def test_parsing_is_requested_again_after_a_while_and_not_at_every_poll(served: Any) -> None:
    one = await unbegun(served)
    for _ in range(12):
        await served.target.status([one])
        served.server.advance(1)
    assert served.server.requests.by_op["parse"] == 1
    served.server.advance(5)
    served.server.faults.clear()
    await served.target.status([one])
    assert served.server.requests.by_op["parse"] == 2
    served.server.advance(5)
    assert (await served.target.status([one]))[one].state is DocState.READY


async def test_read_only_command_starts_no_work(served: Any) -> None:
    one = await unbegun(served)
    await served.target.aclose()
    served.server.faults.clear()
    served.read_only = True
    served.target = await served.open()
    assert (await served.target.status([one]))[one].state is DocState.INDEXING
    assert served.server.requests.by_op["parse"] == 0


async def test_gateway_without_the_call_blames_no_document(served: Any) -> None:
    one = await unbegun(served)
    served.server.faults.clear()
    served.server.faults.add(Fault("status", "parse", effect=False, args={"status": 404}))
    assert (await served.target.status([one]))[one].state is DocState.INDEXING
    served.server.advance(20)
    await served.target.status([one])
    served.server.advance(5)
    assert (await served.target.status([one]))[one].state is DocState.READY


async def test_dataset_counts_as_deleted_only_when_the_server_says_so(served: Any) -> None:
    served.server.faults.add(Fault("code", "delete-base"))
    served.server.faults.add(Fault("unauthorized", "base"))
    with pytest.raises(Halted) as refused:
        await account_of(served.target).bases.delete(served.base)
    assert refused.value.halt == "credentials"
    served.server.faults.add(Fault("code", "delete-base"))
    with pytest.raises(Rejected):
        await account_of(served.target).bases.delete(served.base)
    served.server.faults.add(Fault("code-after", "delete-base"))
    await account_of(served.target).bases.delete(served.base)
