"""A base that keeps no marks, indexes later and forgets answers: names and bytes prove what is ours."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.core.lifecycle import LATER_LOOKS
from kbsync.core.model import UploadState
from kbsync.core.names import Naming
from kbsync.engine.verify import Verification, repair_request, verify_mirror
from kbsync.errors import Unsure
from kbsync.state.read_only import ReadOnlyState
from tests.engine.world import World
from tests.memory.behaviour import FOREVER, Behaviour, Failure, Fault
from tests.memory.variants import ForgetfulMemory


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, ForgetfulMemory, list_lag=1.0, marks=False, poll_first=1.0, reembed_grace=5.0)
    world.base.behaviour = Behaviour(indexing_seconds=3.0)
    return world


def names(world: World) -> list[str]:
    return sorted(document.name for document in world.base.documents.values())


def states(world: World) -> list[str]:
    rows = world.look_up(lambda tx: tx.uploads.in_states(world.run.mirror, 1, tuple(UploadState)))
    return [row.state.name for row in rows]


def ops(world: World, op: str) -> int:
    return sum(request.op == op for request in world.base.requests)


async def audit(world: World) -> Verification:
    state = ReadOnlyState(world.state / "state.db")
    try:
        target = ForgetfulMemory(world.base, limits=world.limits, clock=world.clock.wall)
        return await verify_mirror(world.settings, target, state, world.clock)
    finally:
        state.close()


async def mend(world: World, repair: dict[str, Any]) -> None:
    world.tell("repair", **repair)
    await world.once()


# -- names ---------------------------------------------------------------------------------------------


async def test_names_say_path_and_content(world: World) -> None:
    world.write("guides/intro.md", "one")
    world.write("guides__intro.md", "one")
    await world.once()
    first, second = sorted(names(world))
    assert first != second
    assert first.startswith("guides")
    assert first.endswith(".md")
    read = {Naming().read(name).path for name in (first, second)}  # type: ignore[union-attr]
    assert read == {"guides/intro.md", "guides__intro.md"}


@pytest.mark.parametrize("policy", ["refuse", "replace", "allow"])
@pytest.mark.parametrize("style", ["tagged", "plain"])
async def test_going_back_to_earlier_bytes_takes_no_name_in_use(
    world: World, policy: str, style: str
) -> None:
    world.settings = replace(world.settings, names=style)
    world.base.behaviour.equal_names = policy  # type: ignore[assignment]
    for text in ("one", "two", "one", "two"):
        world.write("a.md", text)
        world.clock.now += 100
        await world.once()
        assert world.served() == world.on_disk()
    assert len(world.base.documents) == 1


async def test_a_name_somebody_else_holds_is_left_to_him(world: World) -> None:
    world.base.behaviour.equal_names = "refuse"
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # of hello
    foreign = world.base.add(Naming().name("a.md", digest), b"not what its name says")
    world.write("b.md", "so that something is mirrored")
    await world.once()
    world.write("a.md", "hello")
    await world.once()
    assert states(world).count("SERVING") == 2
    assert foreign.remote_id in world.base.documents
    mine = {n for n in names(world) if (read := Naming().read(n)) and read.path == "a.md"}
    assert len(mine) == 2


@pytest.mark.parametrize("style", ["nfc", "nfd", "basename", "suffixed", "question_marks"])
@pytest.mark.parametrize("lost", [True, False])
async def test_a_service_that_mangles_names_gets_each_document_once(
    world: World, style: str, lost: bool
) -> None:
    world.base.behaviour.names = style  # type: ignore[assignment]
    if lost:
        world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=True, times=2))
    world.write("手册/caf\u00e9 日本.md", "one")
    world.write(unicodedata.normalize("NFD", "手册/caf\u00e9 日本 が.md"), "two")
    await world.once()
    assert world.puts() == 2
    assert states(world) == ["SERVING", "SERVING"]


async def test_another_prefix_renames_each_document_without_a_gap(world: World) -> None:
    world.write_many(4)
    await world.once()
    world.settings = replace(world.settings, prefix="new-")
    await world.once()
    assert world.served() == world.on_disk()
    assert len(world.base.documents) == 4
    assert all(name.startswith("new-") for name in names(world))
    assert (world.run.counts.renamed, world.run.counts.deleted) == (4, 0)
    assert world.run.halt is None
    puts = world.puts()
    await world.once()
    assert world.puts() == puts


async def test_another_prefix_changes_nothing_where_old_names_are_kept(world: World) -> None:
    world.settings = replace(world.settings, renames="keep")
    world.write("a.md")
    await world.once()
    world.settings = replace(world.settings, prefix="new-")
    await world.once()
    assert world.puts() == 1
    assert world.served() == world.on_disk()


async def test_a_renamed_file_keeps_its_document_where_told_so(world: World) -> None:
    world.settings = replace(world.settings, renames="keep")
    world.write("a.md", "one")
    await world.once()
    world.move("a.md", "b.md")
    await world.once()
    assert world.puts() == 1
    world.write("a.md", "one")  # the very name the document of b.md has
    await world.once()
    assert world.puts() == 2
    assert len(set(names(world))) == 2


# -- lost answers --------------------------------------------------------------------------------------


async def test_a_lost_answer_is_found_by_its_name(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=True))
    world.write("a.md")
    await world.once()
    assert world.puts() == 1
    assert world.served() == world.on_disk()


async def test_a_longer_lag_than_expected_costs_one_twin_and_is_remembered(world: World) -> None:
    world.base.behaviour.list_lag = 25.0
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=True))
    world.write("a.md", "one")
    await world.once()
    world.clock.now += LATER_LOOKS[0] + 40
    await world.once()
    world.clock.now += 100
    await world.once()
    assert len(world.base.documents) == 1, names(world)
    assert world.served() == world.on_disk()
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=True))
    world.write("b.md", "two")
    puts = world.puts()
    began = world.clock.now
    await world.once()
    assert world.puts() == puts + 1
    assert world.clock.now - began < 80


async def test_plain_names_are_proven_by_the_bytes_after_a_lost_answer(world: World) -> None:
    world.settings = replace(world.settings, names="plain")
    world.write("b.md", "so that something is mirrored")
    await world.once()
    foreign = world.base.add("a.md", b"HELLO")
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=True))
    world.write("a.md", "hello")
    await world.once()
    assert world.puts() == 2
    assert foreign.remote_id in world.base.documents
    served = world.look_up(lambda tx: tx.uploads.at(world.run.mirror, 1, "a.md"))
    assert [row.remote_id == foreign.remote_id for row in served] == [False]


async def test_a_twin_that_turns_up_alone_is_recognised_without_another_lost_answer(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), late=200.0))
    world.write("a.md")
    await world.once()
    assert states(world) == ["PRESUMED_LOST", "SERVING"]
    world.clock.now += 1000
    await world.once()
    assert len(world.base.documents) == 1
    assert world.served() == world.on_disk()


async def test_what_stays_lost_is_looked_for_ever_more_seldom(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=False))
    world.write("a.md")
    await world.once()
    lists = ops(world, "list")
    for _ in range(24 * 9):
        world.clock.now += 3600.0
        await world.once()
    assert states(world)[0] == "DROPPED"
    assert ops(world, "list") - lists < 24


# -- state lost ----------------------------------------------------------------------------------------


async def test_documents_are_taken_over_by_their_names_alone(world: World) -> None:
    world.write_many(5)
    world.write("deep/" + "very-long-part/" * 14 + "caf\u00e9.md", "long")
    world.write(unicodedata.normalize("NFD", "sch\u00f6n.md"), "decomposed")
    await world.once()
    puts = world.puts()
    world.lose_state()
    await world.once()
    assert world.puts() == puts
    assert ops(world, "digest") == 0
    assert set(states(world)) == {"SERVING"}
    assert world.served() == world.on_disk()
    assert (await audit(world)).ok


async def test_a_file_changed_meanwhile_is_sent_and_its_old_document_reported(world: World) -> None:
    world.write_many(3)
    await world.once()
    world.lose_state()
    world.write("f1.md", "other bytes")
    await world.once()
    assert world.puts() == 4
    found = await audit(world)
    assert [one.path for one in found.duplicate] == ["f1.md"]
    assert not repair_request(found)


async def test_a_file_changed_meanwhile_replaces_it_where_names_are_proof(world: World) -> None:
    world.settings = replace(world.settings, adopt="name")
    world.write_many(3)
    await world.once()
    world.lose_state()
    world.write("f1.md", "other bytes")
    await world.once()
    assert world.served() == world.on_disk()
    assert len(world.base.documents) == 3


@pytest.mark.parametrize("adopt", ["content", "name"])
async def test_plain_names_are_taken_over_by_the_bytes_themselves(world: World, adopt: str) -> None:
    world.settings = replace(world.settings, names="plain", adopt=adopt)
    world.write_many(3)
    await world.once()
    world.lose_state()
    world.write("f1.md", "text of F1")  # as long as it was
    await world.once()
    assert world.puts() == 4
    assert ops(world, "digest") == 3
    assert world.on_disk()["f1.md"] == "text of F1"
    rows = world.look_up(lambda tx: tx.uploads.in_states(world.run.mirror, 1, (UploadState.SERVING,)))
    assert len(rows) == 3
    assert len(world.base.documents) == (3 if adopt == "name" else 4)


async def test_what_cannot_be_read_is_not_taken_over(world: World) -> None:
    world.settings = replace(world.settings, names="plain")
    world.write("a.md")
    await world.once()
    world.lose_state()
    world.base.behaviour.unreadable = "*"
    await world.once()
    assert world.puts() == 2
    world.base.behaviour.unreadable = None
    found = await audit(world)
    assert [one.path for one in found.duplicate] == ["a.md"]


@pytest.mark.parametrize("style", ["tagged", "plain"])
async def test_a_twin_is_reported_and_removed_on_request(world: World, style: str) -> None:
    world.settings = replace(world.settings, names=style)
    world.write("a.md", "hello")
    await world.once()
    [original] = names(world)
    twin = world.base.add(original, b"hello", foreign=False)
    found = await audit(world)
    assert [one.path for one in found.duplicate] == ["a.md"]
    await mend(world, repair_request(found))
    assert twin.remote_id not in world.base.documents
    assert (await audit(world)).ok
    assert world.served() == world.on_disk()


async def test_a_namesake_with_other_bytes_of_one_length_is_foreign(world: World) -> None:
    world.settings = replace(world.settings, names="plain")
    world.write("a.md", "hello")
    await world.once()
    namesake = world.base.add("a.md", b"HELLO")
    found = await audit(world)
    assert found.ok
    assert found.foreign == 1
    assert not repair_request(found)
    assert namesake.remote_id in world.base.documents


# -- waiting for the index -----------------------------------------------------------------------------


async def test_waiting_for_many_costs_few_requests(world: World) -> None:
    world.write_many(300)
    await world.once()
    assert states(world) == ["SERVING"] * 300
    assert ops(world, "status") < 20


async def test_an_old_failure_still_shown_is_not_counted(world: World) -> None:
    world.base.behaviour.stale_after_reembed = 4.0
    world.base.behaviour.failures.append(Failure(lambda _s: True, times=1))
    world.write("a.md")
    await world.once()
    assert states(world) == ["SERVING"]
    assert ops(world, "reembed") == 1
    assert world.puts() == 1


async def test_a_document_is_asked_again_then_sent_again_then_quarantined(world: World) -> None:
    world.base.behaviour.failures.append(Failure(lambda _s: True, times=FOREVER))
    world.write("a.md")
    await world.once()
    assert ops(world, "reembed") == 3
    assert world.puts() == 2
    assert "FAILED" in states(world)


async def test_where_asking_again_is_not_offered_fresh_uploads_stand_for_it(world: World) -> None:
    world.base.behaviour.not_offered = ("reembed",)
    world.base.behaviour.failures.append(Failure(lambda _s: True, times=FOREVER))
    world.write("a.md")
    await world.once()
    assert world.puts() == 1 + world.limits.reembed_tries
    assert "FAILED" in states(world)


async def test_what_never_says_that_it_is_done_is_searched_for(world: World) -> None:
    world.limits = replace(world.limits, give_up=60.0)
    world.base.behaviour.never_says = "*"
    world.write("a.md")
    await world.once()
    assert states(world) == ["SERVING"]
    assert world.puts() == 1
    assert ops(world, "is_searchable") == 1


async def test_an_account_without_room_halts_and_costs_no_document_a_try(world: World) -> None:
    world.base.behaviour.capacity = 2
    world.write_many(3)
    await world.once()
    assert world.run.halt is not None
    assert world.run.halt.reason == "quota"
    await world.once()
    assert world.run.halt is not None
    world.base.behaviour.capacity = 5
    await world.once()
    assert world.run.halt is None
    assert states(world) == ["SERVING"] * 3
    assert world.puts() == 3
    rows = world.look_up(lambda tx: tx.uploads.in_states(world.run.mirror, 1, (UploadState.SERVING,)))
    assert all(row.attempts <= 1 for row in rows)


async def test_a_quarantined_document_is_cut_anew_when_its_settings_change(world: World) -> None:
    world.base.behaviour.failures.append(Failure(lambda _s: True, times=5))
    world.write("a.md")
    await world.once()
    assert "FAILED" in states(world)
    puts = world.puts()
    world.settings = replace(
        world.settings, document_settings=lambda _path: {"chunk_size": 99}, fingerprint="other"
    )
    await world.once()
    assert ops(world, "reslice") == 1
    assert world.puts() == puts
    assert states(world)[-1] == "SERVING"


async def test_where_cutting_anew_is_not_offered_it_is_sent_anew(world: World) -> None:
    world.base.behaviour.not_offered = ("reslice",)
    world.base.behaviour.failures.append(Failure(lambda _s: True, times=5))
    world.write("a.md")
    await world.once()
    puts = world.puts()
    world.settings = replace(
        world.settings, document_settings=lambda _path: {"chunk_size": 99}, fingerprint="other"
    )
    await world.once()
    assert world.puts() == puts + 1
    assert world.served() == world.on_disk()
    assert len(world.base.documents) == 1


async def test_a_figure_that_lags_is_no_emptied_base(world: World) -> None:
    world.write_many(20)
    await world.once()
    world.base.behaviour.list_lag = 0.0
    look = world.base.look
    world.base.look = lambda: replace(look(), documents=0)  # type: ignore[method-assign]
    await world.once()
    assert world.run.halt is None
