"""Tests single calls of the target, with a stand-in that fails."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from kbsync.contract.searching import Query
from kbsync.contract.target import Accepted, DocState
from kbsync.errors import Halted, Rejected, Unavailable, Unsure
from kbsync_standin.faults import Fault


async def test_only_an_explicit_not_found_makes_a_document_missing(served_world: Any) -> None:
    [remote_id] = await served_world.make_ready(served_world.document("a.md", "alpha"))
    served_world.server.faults.add(Fault("error", "detail", args={"code": "invalid_param"}))
    assert (await served_world.target.status([remote_id]))[remote_id].state is DocState.UNKNOWN
    assert (await served_world.target.status([remote_id]))[remote_id].state is DocState.READY


@pytest.mark.parametrize("body", [{}, [], {"message": "ok"}, 200], ids=str)
async def test_only_difys_own_response_confirms_a_deletion(served_world: Any, body: Any) -> None:
    """Others, such as a gateway, may answer 200, too (promise 10)."""
    [remote_id] = await served_world.make_ready(served_world.document("a.md", "alpha"))
    args = {"status": 200, "body": json.dumps(body)}
    served_world.server.faults.add(Fault("status", "delete", effect=False, args=args))
    outcome = (await served_world.target.delete([remote_id]))[remote_id]
    assert isinstance(outcome, Unavailable)
    assert re.search(r"delete: \S+ answered 200 with an unexpected shape: ", outcome.reason)
    for deleted in ("204", "number", "object"):
        served_world.app.set_behaviour({"deleted": deleted})
        [other] = await served_world.make_ready(served_world.document(f"{deleted}.md", "beta"))
        assert await served_world.target.delete([other]) == {other: None}


async def test_only_documents_of_the_name_are_requested(served_world: Any) -> None:
    documents = [served_world.document(f"{name}.md", name) for name in ("alpha", "beta")]
    await served_world.make_ready(*documents)
    assert [row.name for row in await served_world.target.find(documents[0].name)] == [documents[0].name]


async def test_search_filters_by_document_and_leaves_paths_to_the_caller(served_world: Any) -> None:
    documents = [served_world.document(f"{number}.md", f"kestrel {number}") for number in range(3)]
    ids = await served_world.make_ready(*documents)
    search = served_world.target.search
    assert {hit.remote_id for hit in await search(Query("kestrel", among=(ids[1],)))} == {ids[1]}
    assert len(await search(Query("kestrel", top_k=1))) == 1
    assert len(await search(Query("kestrel", top_k=1, types=("md",)))) == 3


@pytest.mark.parametrize(
    ("path", "size", "code"), [("a.exe", 5, "format"), ("a.md", 15 * 1024 * 1024 + 1, "too-large")]
)
async def test_request_dify_would_silently_refuse_is_not_sent(
    served_world: Any, path: str, size: int, code: str
) -> None:
    [outcome] = await served_world.target.put([served_world.document(path, b"x" * size)])
    assert isinstance(outcome, Rejected) and outcome.code == code
    assert served_world.server.requests.by_op["upload"] == 0


async def test_response_without_an_id_proves_nothing_and_another_name_is_reported(served_world: Any) -> None:
    served_world.server.faults.add(Fault("no-id", "upload"))
    served_world.server.faults.add(Fault("other-name", "upload"))
    first, second, third = [served_world.document(f"{number}.md", "text") for number in range(3)]
    outcomes = await served_world.target.put([first, second, third])
    assert isinstance(outcomes[0], Unsure)
    assert isinstance(outcomes[1], Accepted) and outcomes[1].name == f"renamed {second.name}"
    assert isinstance(outcomes[2], Accepted) and outcomes[2].name == ""


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"external": True}, "external to Dify"),
        (
            {"runtime": "rag_pipeline"},
            "a knowledge pipeline.* set dataset_id to the id of a general knowledge base",
        ),
        ({"runtime": "agent"}, "of the kind agent"),
    ],
)
async def test_base_of_another_kind_accepts_no_documents(
    served_world: Any, behaviour: dict[str, Any], words: str
) -> None:
    served_world.app.set_behaviour(behaviour)
    with pytest.raises(Halted, match=words):
        await served_world.target.base()
    [outcome] = await served_world.target.put([served_world.document("a.md", "alpha")])
    assert isinstance(outcome, Halted)
    assert served_world.server.requests.by_op["upload"] == 0


@pytest.mark.parametrize("files_url", ["broken", "untold"])
async def test_invalid_address_proves_no_bytes(served_world: Any, files_url: str) -> None:
    [remote_id] = await served_world.make_ready(served_world.document("a.md", "alpha"))
    served_world.app.set_behaviour({"files_url": files_url})
    served_world.server.requests.clear()
    assert await served_world.target.digest(remote_id) is None
    assert dict(served_world.server.requests.by_op) == {"file": 1}
