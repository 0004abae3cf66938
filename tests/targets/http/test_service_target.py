"""Tests what a service's target adds to its own calls: what isn't sent, and what isn't believed or shown."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from kbsync.errors import Halted, Unavailable
from tests.targets.bodies import outgoing
from tests.targets.example.test_example import KEY, ExampleWorld


@pytest.fixture
async def target() -> AsyncIterator[Any]:
    target = await ExampleWorld().open()
    yield target
    await target.aclose()


async def test_nothing_is_sent_to_a_service_that_is_down_and_no_reason_shows_the_key(
    target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    async def upload(document: Any) -> Any:
        sent.append(document.path)
        raise Unavailable(f"upload: the service refuses Bearer {KEY}")

    monkeypatch.setattr(target, "upload", upload)
    outcomes = await target.put([outgoing(path, b"text") for path in ("a.md", "b.md", "c.md")])
    assert sent == ["a.md"]
    assert [outcome.untried for outcome in outcomes] == [False, True, True]
    assert all("***" in outcome.reason and KEY not in outcome.reason for outcome in outcomes)


async def test_no_batch_is_deleted_once_a_person_must_act(
    target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Sequence[str]] = []

    async def remove_several(ids: Sequence[str]) -> bool:
        sent.append(ids)
        raise Halted("credentials", "delete: the service refuses the key")

    monkeypatch.setattr(target, "most_ids", 2, raising=False)
    monkeypatch.setattr(target, "remove_several", remove_several)
    outcomes = await target.delete(["d1", "d2", "d3", "d4", "d5"])
    assert len(sent) == 1
    assert len(outcomes) == 5 and all(isinstance(outcome, Halted) for outcome in outcomes.values())
