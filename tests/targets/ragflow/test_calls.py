"""Tests single calls of the target, on a clock that the test sets."""

from __future__ import annotations

from typing import Any

import pytest

from kbsync.accounts.account import BaseRequest, account_of
from kbsync.contract.target import Accepted, DocState
from kbsync.errors import Halted, Rejected, Unavailable
from kbsync_standin.faults import Fault
from tests.share import long


async def unbegun(served: Any) -> str:
    """Upload a document that isn't parsed for a while, since the server works on others."""
    served.server.faults.add(Fault("code", "parse", times=0, args={"code": 106}))
    [accepted] = await served.target.put([served.document("a.md", "alpha")])
    served.server.advance(20)
    served.server.requests.clear()
    return str(accepted.remote_id)


@long
async def test_parsing_is_requested_again_after_a_while_and_not_at_every_poll(served_world: Any) -> None:
    remote_id = await unbegun(served_world)
    for _ in range(12):
        await served_world.target.status([remote_id])
        served_world.server.advance(1)
    assert served_world.server.requests.by_op["parse"] == 1
    served_world.server.advance(5)
    served_world.server.faults.clear()
    await served_world.target.status([remote_id])
    assert served_world.server.requests.by_op["parse"] == 2
    served_world.server.advance(5)
    assert (await served_world.target.status([remote_id]))[remote_id].state is DocState.READY


async def test_only_the_document_that_cannot_be_parsed_is_blamed_for_the_request(served_world: Any) -> None:
    served_world.server.faults.add(Fault("code", "parse", times=0, args={"code": 106}))
    documents = [served_world.document(f"{name}.md", name) for name in ("alpha", "beta", "gamma")]
    ids = [str(accepted.remote_id) for accepted in await served_world.target.put(documents)]
    served_world.server.advance(20)
    served_world.server.faults.clear()
    served_world.server.faults.add(Fault("code", "parse", "*beta*", times=0, args={"message": "no parser"}))
    states = await served_world.target.status(ids)
    assert [states[remote_id].state is DocState.FAILED for remote_id in ids] == [False, True, False]
    assert "no parser" in states[ids[1]].reason


async def test_read_only_command_starts_no_work(served_world: Any) -> None:
    remote_id = await unbegun(served_world)
    await served_world.target.aclose()
    served_world.server.faults.clear()
    served_world.read_only = True
    served_world.target = await served_world.open()
    assert (await served_world.target.status([remote_id]))[remote_id].state is DocState.INDEXING
    assert served_world.server.requests.by_op["parse"] == 0


async def test_gateway_without_the_call_blames_no_document(served_world: Any) -> None:
    remote_id = await unbegun(served_world)
    served_world.server.faults.clear()
    served_world.server.faults.add(Fault("status", "parse", effect=False, args={"status": 404}))
    assert (await served_world.target.status([remote_id]))[remote_id].state is DocState.INDEXING
    served_world.server.advance(20)
    await served_world.target.status([remote_id])
    served_world.server.advance(5)
    assert (await served_world.target.status([remote_id]))[remote_id].state is DocState.READY


async def test_upload_answered_as_if_the_call_were_missing_blocks_no_other_document(
    served_world: Any,
) -> None:
    """A firewall may answer so for one document, and the dataset exists."""
    served_world.server.faults.add(Fault("status", "upload", effect=False, args={"status": 404}))
    documents = [served_world.document("a.md", "alpha"), served_world.document("b.md", "beta")]
    first, second = await served_world.target.put(documents)
    assert isinstance(first, Rejected) and first.may_pass
    assert first.reason.startswith("refused, although the dataset exists: ")
    assert isinstance(second, Accepted)


async def test_dataset_counts_as_deleted_only_when_the_server_says_so(served_world: Any) -> None:
    served_world.server.faults.add(Fault("code", "delete-base"))
    served_world.server.faults.add(Fault("unauthorized", "base"))
    with pytest.raises(Halted) as refused:
        await account_of(served_world.target).bases.delete(served_world.base)
    assert refused.value.halt == "credentials"
    served_world.server.faults.add(Fault("code", "delete-base"))
    with pytest.raises(Rejected):
        await account_of(served_world.target).bases.delete(served_world.base)
    served_world.server.faults.add(Fault("code-after", "delete-base"))
    await account_of(served_world.target).bases.delete(served_world.base)


@pytest.mark.parametrize("form", ["object", "null"])
async def test_response_without_a_list_proves_no_missing_dataset_and_no_free_name(
    served_world: Any, form: str
) -> None:
    served_world.server.faults.add(Fault("shape", "base", times=0, args={"form": form}))
    with pytest.raises(Unavailable, match="unexpected shape"):
        await served_world.target.base()
    with pytest.raises(Unavailable, match="unexpected shape"):
        await account_of(served_world.target).bases.create(BaseRequest("guides"))
    assert served_world.server.requests.by_op["create-base"] == 0


async def test_response_about_the_path_proves_no_missing_dataset(served_world: Any) -> None:
    """RAGFlow refuses an unknown dataset with 102 or 108; a gateway may drop the status of its 404."""
    about_path = {"code": 404, "message": "Not Found: /kb/api/v1/datasets"}
    for args, means in ((about_path, Unavailable), ({"code": 108, "message": "lacks permission"}, Halted)):
        served_world.server.faults.add(Fault("code", "base", times=0, args=args))
        with pytest.raises(means):
            await served_world.target.base()
        served_world.server.faults.clear()
