from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.contract.searching import Explanation
from kbsync.contract.target import Limits
from kbsync.core.model import FileKind, RootIdentity
from kbsync.core.selection import Rules
from kbsync.engine.explain import PathExplanation, clause, outside
from kbsync.engine.plan import CommandContext
from kbsync.engine.status import clock_time
from kbsync.errors import Halted, Rejected, Unavailable, Unsure
from kbsync.state.mirrors import Pause
from tests.engine import read_only_commands
from tests.engine.auditing import verified
from tests.engine.read_only_commands import planned
from tests.engine.test_status import items
from tests.engine.world import World, identities
from tests.memory.behaviour import Behaviour, Failure, Fault
from tests.memory.target import MemoryTarget


class ExplainingMemory(MemoryTarget):
    """Returns the text that it extracted from a document."""

    async def explain(self, remote_id: str) -> Explanation:
        document = self._base.documents.get(remote_id)
        if document is None or document.searchable is None:
            raise Rejected(f"no document {remote_id}")
        return Explanation(3, document.searchable.text)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, ExplainingMemory)


async def explained(world: World, path: str) -> PathExplanation:
    context = CommandContext(identities(world.configured), lambda command: f"kbsync {command} --folder docs")
    return await read_only_commands.explained(world, path, context)


def full_text(explanation: PathExplanation) -> str:
    return " ".join((explanation.answer, *explanation.sentences))


async def test_explain_json_has_answer_and_evidence(world: World) -> None:
    await world.mirrored({"a.md": "hello"})
    explanation = json.loads(json.dumps((await explained(world, "a.md")).to_json()))
    document_id = explanation["document"]["document_id"]
    sentence = f"Searches find the document in the knowledge base (document {document_id})."
    assert sentence in explanation["sentences"]
    assert (
        explanation["found"] is True
        and explanation["answer"] == "The file is searchable."
        and explanation["mirror"] == "docs"
    )
    assert explanation["file"]["kind"] == "file" and explanation["file"]["size"] == 5
    assert explanation["selection"] == {"choice": "selected", "reason": "", "rule": "", "by_directory": False}
    assert explanation["state"]["state"] == "ready" and explanation["state"]["changed_since"] is False
    assert explanation["uploads"][0]["state"] == "serving" and explanation["hold"] is None
    assert explanation["document"]["chunks"] == 3 and explanation["document"]["known_as"] == "ready"


NONSENSE = {"sub/.kbsyncignore": "[[:nonsense:]]\n", "sub/a.md": "x"}


SECRET = {"sub/.kbsyncignore": "# comment\n\nsecret*.md\n", "sub/secret1.md": "x"}
WHY = "The file is not searchable: it is excluded by secret*.md (sub/.kbsyncignore:3)"


@pytest.mark.parametrize(
    ("files", "path", "words"),
    [
        (SECRET, "sub/secret1.md", [WHY, "change sub/.kbsyncignore:3"]),
        ({"drafts/deep/a.md": "x"}, "drafts/deep/a.md", ["a parent directory is not scanned", "exclude[0]"]),
        ({"notes~": "x"}, "notes~", ["negated pattern in `exclude` or .kbsyncignore, such as `!*~`"]),
        ({"a.sync-conflict-1.md": "x"}, "a.sync-conflict-1.md", ["such as `!*.sync-conflict-*`"]),
        ({".wiki/a.md": "x"}, ".wiki/a.md", ["hidden", "such as `!.wiki/`"]),
        ({"sub/.wiki/a.md": "x"}, "sub/.wiki", ["hidden", "such as `!.wiki/`"]),
        ({".a/.b/a.md": "x", ".kbsyncignore": "!.a/\n"}, ".a/.b/a.md", ["such as `!.b/`"]),
        ({".[a].md": "x"}, ".[a].md", ["hidden", r"such as `!.\[a].md`"]),
        ({"a.txt": "x"}, "a.txt", ["add a pattern for the file to `include`"]),
        (SECRET, "sub/.kbsyncignore", ["kbsync and isn't mirrored; no rule can include this file."]),
        ({"draft.md": "x"}, "draft.md", ["!draft.md (include[2]); change include[2], or add a pattern"]),
        ({"image.png": "x"}, "image.png", ["explicitly included but not accepted"]),
        ({}, "nothing.md", ["it does not exist"]),
        (NONSENSE, "sub/a.md", ["sub/.kbsyncignore:1", "correct that line"]),
        ({"a.md": "x"}, "a.md", ["no pass has picked up the file yet; run `kbsync --once --folder docs"]),
        ({"sub/a.md": "x"}, "sub", ["This is a directory whose files"]),
        ({"node_modules/b.md": "x"}, "node_modules", ["Files in this directory are not searchable:"]),
    ],
)
async def test_before_a_pass_explain_says_why_a_file_is_not_searchable_and_what_to_do(
    world: World, files: dict[str, str], path: str, words: list[str]
) -> None:
    world.settings = replace(world.settings, include=("*.md", "*.png", "!draft.md"), exclude=("drafts/",))
    for name, text in files.items():
        world.write(name, text)
    explanation = await explained(world, path)
    assert not explanation.is_found and all(word in explanation.answer for word in words), explanation.answer


async def test_sentences_about_a_directory_do_not_call_it_a_file(world: World) -> None:
    world.settings = replace(world.settings, exclude=("drafts/",))
    world.write("sub/a.md", "x")
    world.write("drafts/a.md", "x")
    selected, excluded = await explained(world, "sub"), await explained(world, "drafts")
    assert "The directory is selected: nothing excludes it." in selected.to_json()["sentences"]
    assert "The directory is excluded by drafts/ (exclude[0])." in excluded.to_json()["sentences"]
    world.write(".kbsyncignore", "[")
    sentences = (await explained(world, "sub")).to_json()["sentences"]
    assert any(sentence.startswith("The rules that apply to the directory are") for sentence in sentences)


Change = Callable[[World], object]


@pytest.mark.parametrize(
    ("change", "is_found", "words"),
    [
        (lambda w: w.write("a.md", "newer"), True, "The file is searchable in an older version because"),
        (
            lambda w: w.write(".kbsyncignore", "a.md\n"),
            True,
            "still searchable although it is excluded by a.md",
        ),
        (lambda w: w.base.lose(*w.base.documents), False, "kbsync verify --repair --mirror docs --folder"),
    ],
)
async def test_after_a_pass_explain_says_why_the_index_differs_from_the_file(
    world: World, change: Change, is_found: bool, words: str
) -> None:
    await world.mirrored({"a.md": "old"})
    change(world)
    explanation = await explained(world, "a.md")
    assert (explanation.is_found, words in explanation.answer) == (is_found, True), explanation.answer


async def test_a_touched_file_is_not_called_outdated(world: World) -> None:
    await world.mirrored({"a.md": "old"})
    os.utime(world.root / "a.md", (1, 1))
    explanation = await explained(world, "a.md")
    assert (explanation.answer, explanation.is_changed) == ("The file is searchable.", False)


async def test_recent_file_shows_how_long_it_must_be_quiet(world: World) -> None:
    path = world.write("a.md")
    world.clock.epoch = path.stat().st_mtime + 0.5
    running = CommandContext(identities(world.configured), at_work=True)
    answer = (await read_only_commands.explained(world, "a.md", running)).answer
    assert "changed 0.5 s ago" in answer and "another 1.5 s without changes" in answer
    os.utime(path, (9e9, 9e9))
    assert "is in the future" in (await read_only_commands.explained(world, "a.md", running)).answer


async def test_recent_file_needs_a_pass_while_kbsync_is_not_running(world: World) -> None:
    path = world.write("a.md")
    world.clock.epoch = path.stat().st_mtime + 0.5
    then = "; run `kbsync --once --folder docs`."
    assert (await explained(world, "a.md")).answer.endswith(f"changed 0.5 s ago{then}")
    os.utime(path, (9e9, 9e9))
    assert (await explained(world, "a.md")).answer.endswith(then)


def refuse(world: World) -> None:
    error = Rejected("too ugly", code="42")
    world.base.faults.append(Fault("put", error=lambda: error, match="a b.md", times=99))


def delay(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Unavailable("busy"), times=10_000))


def lose_the_response(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Unsure("connection reset")))
    world.base.faults.append(Fault("list", error=lambda: Unavailable("busy"), nth=2, times=10_000))


def refuse_a_change(world: World) -> None:
    world.base.behaviour = Behaviour(failures=[Failure("a b.md", times=99, reason="no can do")])
    world.write("a b.md", "new")


@pytest.mark.parametrize(
    ("before", "between", "answer_words", "words"),
    [
        (
            refuse,
            None,
            ["the target refused the document (too ugly)", "kbsync retry 'a b.md' --folder docs"],
            ["An upload to the knowledge base failed", "code 42"],
        ),
        (delay, None, ["the document is waiting to be sent"], ["busy", "next check in", "attempts"]),
        (
            lose_the_response,
            None,
            ["the upload got no response; kbsync will look for the document"],
            ["connection reset"],
        ),
        (None, refuse_a_change, ["older version because the target refused the document (no can do)"], []),
    ],
)
async def test_rejected_file_shows_the_targets_words_and_a_hint(
    world: World, before: Change | None, between: Change | None, answer_words: list[str], words: list[str]
) -> None:
    world.write("a b.md", "old")
    for change in (before, between):
        if change is not None:
            change(world)
        await world.once()
    explanation = await explained(world, "a b.md")
    assert all(word in explanation.answer for word in answer_words), explanation.answer
    assert all(word in full_text(explanation) for word in words)


async def test_path_that_begins_with_a_hyphen_is_not_taken_for_an_option(world: World) -> None:
    world.write("-x y.md")
    world.base.faults.append(Fault("put", error=lambda: Rejected("too ugly"), times=99))
    await world.once()
    assert "kbsync retry './-x y.md' --folder docs" in (await explained(world, "-x y.md")).answer


async def test_failed_request_or_list_adds_one_sentence(world: World) -> None:
    for name, text in NONSENSE.items():
        world.write(name, text)
    await world.mirrored({"a.md": "hello"})
    assert "At the last scan, sub" in full_text(await explained(world, "sub/a.md"))
    world.base.faults.append(Fault("status", error=lambda: Unavailable("no route")))
    explanation = await explained(world, "a.md")
    assert (
        explanation.answer == "The file is searchable."
        and "Could not query the knowledge base: no route" in full_text(explanation)
    )
    assert explanation.to_json()["document"]["trouble"] == "no route"


@pytest.mark.parametrize("folder", ["sub", ""], ids=["below", "root"])
async def test_file_whose_rules_became_unknown_is_outdated_only_once_it_changes(
    world: World, folder: str
) -> None:
    path = f"{folder}/a.md".removeprefix("/")
    ignore_file = f"{folder}/.kbsyncignore".removeprefix("/")
    await world.mirrored({path: "old"})
    await world.mirrored({ignore_file: "[\n"})
    problem = f"{ignore_file}:1: a bracket that is not closed in '['; correct that line"
    explanation = await explained(world, path)
    assert explanation.answer == "The file is searchable."
    assert f"At the last scan, {problem}." in explanation.sentences
    answer = (await explained(world, folder)).answer
    unread = f"This directory cannot be read: {problem}"
    assert answer == f"{unread}; the documents for its files are kept."
    world.write(path, "newer")
    answer = (await explained(world, path)).answer
    assert answer == f"The file is searchable in an older version because {problem}."
    world.delete(path)
    await world.once()
    answer = (await explained(world, path)).answer
    assert answer == f"The document is still searchable although the file is gone: {problem}."
    world.write(path, "newer")
    world.delete(ignore_file)
    await world.once()
    assert (await explained(world, path)).answer == "The file is searchable."
    assert "; the only file in it is searchable." in (await explained(world, folder)).answer


async def test_directory_that_could_not_be_listed_is_named_once(world: World) -> None:
    await world.mirrored({"sub/deep/a.md": "hello"})
    world.change(lambda tx: tx.folders.record_problem(world.run.id, "sub", "cannot be listed: broken disk"))
    problem = "sub cannot be listed: broken disk"
    for path in ("sub", "sub/deep"):
        assert f"directory cannot be read: {problem}; the" in (await explained(world, path)).answer
    assert (await explained(world, "sub/deep/a.md")).answer == "The file is searchable."
    assert "cannot be listed" not in full_text(await explained(world, ""))


async def test_halt_comes_before_a_change_no_pass_has_seen(world: World) -> None:
    await world.mirrored({"a.md": "old"})
    world.base.faults.append(Fault("put", error=lambda: Halted("quota", "no money"), times=99))
    await world.mirrored({"b.md": "hello"})
    assert (await explained(world, "a.md")).answer == "The file is searchable."
    world.write("a.md", "newer")
    explanation = await explained(world, "a.md")
    assert (
        "in an older version because the mirror is halted: no money; run `kbsync --once" in explanation.answer
    )
    world.delete("a.md")
    explanation = await explained(world, "a.md")
    assert "although the file is gone: the mirror is halted: no money" in explanation.answer


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Unavailable("no answer"), "knowledge base not reachable: no answer; "),
        (Halted("credentials", "key refused"), "the mirror is halted: key refused; run `kbsync retry"),
    ],
    ids=["down", "halted"],
)
async def test_waiting_file_and_folder_name_what_keeps_the_running_kbsync_from_working(
    world: World, error: Unavailable | Halted, words: str
) -> None:
    world.write("sub/a.md", "x")
    world.base.faults.append(Fault("base", error=lambda: error, times=99))
    await world.once()
    context = CommandContext(identities(world.configured), at_work=True)
    for path in ("sub/a.md", "sub"):
        answer = (await read_only_commands.explained(world, path, context)).answer
        assert words in answer, answer
        assert "continue automatically" not in answer


async def explained_while_paused(
    world: World, path: str, pause: Pause, *, at_work: bool = False
) -> PathExplanation:
    world.change(lambda tx: tx.pauses.begin(world.run.id, pause))
    context = CommandContext(identities(world.configured), at_work=at_work)
    return await read_only_commands.explained(world, path, context)


@pytest.mark.parametrize("at_work", [True, False])
@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        (lambda w: w.write("b.md"), "b.md", "no pass has picked up the file yet; "),
        (lambda w: w.write("a.md", "newer"), "a.md", "no pass has noticed the change yet; "),
        (lambda w: w.delete("a.md"), "a.md", "too many would be deleted at once; "),
        (lambda w: w.write(".kbsyncignore", "a.md"), "a.md", "too many would be deleted at once; "),
    ],
)
async def test_pause_and_resume_are_named_where_a_pass_is_awaited(
    world: World, change: Change, path: str, words: str, at_work: bool
) -> None:
    await world.mirrored({"a.md": "old"})
    change(world)
    since = world.clock.wall()
    explanation = await explained_while_paused(world, path, Pause(since), at_work=at_work)
    paused = f"nothing is mirrored now: paused since {clock_time(since)}; to resume, run `kbsync resume docs`"
    assert explanation.answer.endswith(f"{words}{paused}."), explanation.answer
    until = since + 60
    explanation = await explained_while_paused(world, path, Pause(since, until), at_work=at_work)
    assert f" until {clock_time(until)}; to resume" in explanation.answer
    world.clock.epoch += 61
    assert "paused" not in (await explained(world, path)).answer


async def test_quiet_hours_end_by_themselves_and_do_not_keep_a_single_pass_from_running(world: World) -> None:
    await world.mirrored({"a.md": "hello"})
    world.write("b.md")
    since = world.clock.wall()
    quiet = Pause(since, since + 3600, is_quiet=True)
    answer = (await explained_while_paused(world, "b.md", quiet, at_work=True)).answer
    hours = f"quiet hours since {clock_time(since)} until {clock_time(since + 3600)}"
    assert f"{hours}; to resume before they end, run `kbsync resume docs`" in answer
    answer = (await explained_while_paused(world, "b.md", quiet)).answer
    assert "quiet hours" not in answer and "; run `kbsync --once`" in answer


async def test_pause_does_not_hide_other_reasons(world: World) -> None:
    world.write("a.md")
    world.write("a b.md")
    refuse(world)
    await world.once()
    pause = Pause(world.clock.wall())
    assert (await explained_while_paused(world, "a.md", pause)).answer == "The file is searchable."
    refused = (await explained_while_paused(world, "a b.md", pause)).answer
    assert "refused the document (too ugly)" in refused and "paused" not in refused
    world.root.rename(world.root.parent / "away")
    missing = (await explained_while_paused(world, "a.md", pause)).answer
    assert "the folder is missing" in missing and "run `kbsync resume docs`" in missing


@pytest.mark.parametrize("is_halted", [True, False], ids=["halted", "no pass was there yet"])
async def test_missing_folder_is_the_reason(world: World, is_halted: bool) -> None:
    await world.mirrored({"a.md": "hello"})
    away = world.root.rename(world.root.parent / "away")
    if is_halted:
        await world.once()
    explanation = await explained(world, "a.md")
    assert explanation.is_found
    assert explanation.answer.startswith(
        "The file is still searchable, as of the last time the folder was readable: "
    )
    assert (
        "the folder is missing" in explanation.answer and "kbsync --once --mirror docs" in explanation.answer
    )
    assert "older version" not in explanation.answer
    explanation = await explained(world, "never.md")
    assert "not searchable: the mirror is halted" in explanation.answer and "is missing" in explanation.answer
    away.rename(world.root)
    assert (await explained(world, "a.md")).answer == "The file is searchable."


async def test_missing_mount_is_the_reason(world: World) -> None:
    """The mount point is an empty folder now."""
    await world.mirrored({"a.md": "hello"})
    was = RootIdentity(1, 1, "ext4", is_mount=True)
    world.change(lambda tx: tx.mirrors.set_root(world.run.id, was))
    world.delete("a.md")
    explanation = await explained(world, "a.md")
    assert explanation.answer.startswith(
        "The file is still searchable, as of the last time the folder was readable: "
    )
    assert (
        "it is no longer a mount point" in explanation.answer and "kbsync approve docs" in explanation.answer
    )


@pytest.mark.parametrize(
    ("path", "size", "kind", "expected"),
    [
        ("a.md", 0, FileKind.FILE, "it is empty"),
        ("a.md", 5, FileKind.SYMLINK, "it is a symlink (not followed)"),
        ("a.md", 5, FileKind.SPECIAL, "it is a socket, fifo or device"),
        ("a.md", 2000, FileKind.FILE, "it has 2,000 bytes, over the limit"),
        ("b.md", 5, FileKind.FILE, "it is excluded by b.md"),
        ("a.txt", 5, FileKind.FILE, "it matches nothing in include"),
        ("a.png", 5, FileKind.FILE, "it is explicitly included but not accepted: the target"),
        (".kbsyncignore", 5, FileKind.FILE, "it contains patterns for kbsync"),
    ],
)
def test_rule_reason_is_a_clause(path: str, size: int, kind: FileKind, expected: str) -> None:
    rules = Rules(("*.md", "*.png"), ("b.md",), Limits(extensions=frozenset({"md"}), max_bytes=1000))
    assert clause(rules.verdict(path, size, kind).reason).startswith(expected)


@pytest.mark.parametrize("folder", ["empty room", "hidden", "5 bytes", "matches", "cannot be", "symlink"])
def test_sentence_that_begins_with_a_path_gets_no_other_subject(folder: str) -> None:
    for problem in (f"{folder}/.kbsyncignore:1: a bracket", f"{folder}/.kbsyncignore cannot be read: no"):
        assert clause(problem) == problem


def test_path_outside_every_mirror_lists_the_mirrors() -> None:
    result = outside("/etc/passwd", [Path("/srv/docs")])
    assert result.mirror is None and "/srv/docs" in result.answer
    assert result.to_json()["found"] is False


# -- a renamed file whose upload is refused: a failure that is seen, while its bytes are still found -------

OLD, NEW = "old.md", "sub/new.md"


@pytest.fixture
async def renamed(tmp_path: Path) -> World:
    """The service refused the rename twice, and will refuse it again."""
    world = World(tmp_path)
    world.write_many(3)
    await world.mirrored({OLD: "as it was"})
    world.base.faults.append(Fault("put", error=lambda: Rejected("too large"), match=NEW, times=99))
    world.move(OLD, NEW)
    await world.once()
    await world.once()
    return world


async def test_refused_rename_is_reported_as_failed_with_reason_and_old_name(renamed: World) -> None:
    [document] = renamed.base.searchable(OLD)
    assert renamed.statuses() == {"ready": 3, "failed": 1}
    item = items(renamed)[NEW]
    assert (item["state"], item["document_id"]) == ("failed", document.remote_id)
    assert item["reason"] == f"too large; still searchable under its old name, {OLD}"


async def test_refused_rename_is_sent_once_and_again_on_retry(renamed: World) -> None:
    assert len([request for request in renamed.base.requests if request.op == "put"]) == 5
    renamed.base.faults.clear()
    renamed.post_request("retry")
    await renamed.once()
    assert renamed.statuses() == {"ready": 4}
    assert renamed.searchable_texts() == renamed.on_disk()


async def test_restoring_the_old_name_clears_the_failure(renamed: World) -> None:
    renamed.move(NEW, OLD)
    await renamed.once()
    assert renamed.statuses() == {"ready": 4}
    assert renamed.searchable_texts() == renamed.on_disk()


async def test_refused_rename_is_no_failure_where_old_names_are_kept(renamed: World) -> None:
    renamed.settings = replace(renamed.settings, renames="keep")
    await renamed.mirrored({NEW: "as it was"})  # checked again
    assert renamed.statuses() == {"ready": 4}


async def test_verify_plan_and_explain_agree_on_a_refused_rename(renamed: World) -> None:
    [stale] = (await verified(renamed)).stale
    assert stale.path == NEW and f"renamed from {OLD}" in stale.why and "too large" in stale.why
    assert (
        f"searchable under its old name, {OLD}, because the target refused the document (too large)"
        in (await explained(renamed, NEW)).answer
    )
    plan = await planned(renamed)
    assert [file.path for file in plan.failed] == [NEW]
    assert plan.rename == []
