"""Tests promise 3, exactly once: the power fails, and the disk loses what was not synced."""

from __future__ import annotations

import hashlib
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import warm
from tests.cli.sandbox import LONGEST, eventually
from tests.cli.zhipu import ZhipuSandbox, digests_in, zhipu_sandbox
from tests.programs import needs
from tests.promises.disk import Keeps, Memory, Record, built
from tests.share import ONE_IN, in_parts, long

pytestmark = needs("gcc")

LATE = 6.0
"""Seconds after which an interrupted upload arrives."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("forgetful"))


# -- the journal of intents -----------------------------------------------------------------------------


@long
def test_upload_in_flight_at_a_power_loss_is_not_duplicated(tmp_path: Path, library: Path) -> None:
    """The service doesn't show it yet: only the journal knows about it."""
    with zhipu_sandbox(tmp_path) as desk:
        desk.config.write_text(desk.config.read_text().replace("absent_after: 2s", "absent_after: 30s"))
        desk.write("there.md", "mirrored before")
        desk.once()
        memory = Memory(desk.state, library, tmp_path)
        desk.write("late.md", "on its way when the power goes")
        desk.service.play("late-effect", op="upload", args={"after": LATE})
        end_at_upload(desk, memory)
        forget(desk, memory)
        desk.once()
        desk.service.server.advance(2 * LATE)
        assert [entry["name"][:4] for entry in desk.service.effects("stored")] == ["ther", "late"]
        assert desk.service.digests() == digests_in(desk.docs)


def end_at_upload(desk: ZhipuSandbox, memory: Memory) -> None:
    """Run a pass in a separate process, killed once its upload is in progress."""
    sent = desk.service.request_count("upload")
    process = desk.keep(
        subprocess.Popen(
            [sys.executable, "-m", "kbsync", "--once", "--json"],
            env=desk.environ(memory.environ()),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    )
    eventually(lambda: desk.service.request_count("upload") > sent, LONGEST)
    process.send_signal(signal.SIGKILL)
    assert process.wait(LONGEST) == -signal.SIGKILL


def forget(desk: ZhipuSandbox, memory: Memory) -> None:
    state_dir = desk.state.with_name("after")
    memory.after(memory.records(), state_dir, lambda _name: False)
    desk.state.rename(desk.state.with_name("lost"))
    state_dir.rename(desk.state)


# -- the embedded knowledge base -----------------------------------------------------------------------

FORGETS: dict[str, Keeps] = {
    "everything": lambda _name: False,
    "the journal": lambda name: not name.startswith("state.db"),
    "the index": lambda name: not name.startswith("index.db"),
}
"""Which unsynced writes are lost: a disk writes files in its own order."""


@long
@in_parts
@pytest.mark.parametrize("subject", FORGETS)
def test_power_loss_at_any_moment_leaves_one_document_per_file(
    tmp_path: Path, library: Path, subject: str, part: int
) -> None:
    docs, state = tmp_path / "docs", tmp_path / "state"
    docs.mkdir()
    for name in ("kept", "changed", "moved", "gone", "more", "most"):
        (docs / f"{name}.md").write_text(f"the first text of {name}")
    kbsync(docs, state, "--once", "--quiet")
    memory = Memory(state, library, tmp_path)
    edit(docs)
    command = [sys.executable, "-m", "kbsync", "--once", "--quiet", "--folder", docs, "--state-dir", state]
    subprocess.run(command, env=environ(tmp_path) | dict(memory.environ()), check=True, timeout=LONGEST)
    records = memory.records()
    outcomes = dict[bytes, Path]()
    for moment in (*moments_in(records), len(records)):
        state_dir = tmp_path / f"after-{moment}"
        memory.after(records[:moment], state_dir, FORGETS[subject])
        outcomes.setdefault(contents(state_dir), state_dir)
    assert len(outcomes) > 2 * ONE_IN
    for state_dir in list(outcomes.values())[part::ONE_IN]:
        kbsync(docs, state_dir, "--once", "--quiet")
        check_files(docs, state_dir)


def contents(folder: Path) -> bytes:
    """Return a digest of all files below `folder`."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name, data = bytes(path.relative_to(folder)), path.read_bytes()
            digest.update(b"%d %s %d " % (len(name), name, len(data)) + data)
    return digest.digest()


def moments_in(records: Sequence[Record]) -> list[int]:
    """Return the moments before each sync and at each change to another file: moments between are
    equivalent.
    """
    pairs = enumerate(itertools.pairwise(records), start=1)
    return [n for n, (before, after) in pairs if after.kind == "s" or before.path != after.path]


def edit(docs: Path) -> None:
    """Make every kind of change."""
    (docs / "changed.md").write_text("the second text of changed")
    (docs / "moved.md").rename(docs / "elsewhere.md")
    (docs / "gone.md").unlink()
    (docs / "new.md").write_text("the first text of new")


def check_files(docs: Path, state: Path) -> None:
    """Assert that every file is found once, with its text."""
    for file in docs.iterdir():
        hits = json.loads(kbsync(docs, state, "search", file.read_text(), "--json"))["hits"]
        matching = [hit["text"].strip() for hit in hits if hit["path"] == file.name]
        assert matching == [file.read_text()], (state.name, file.name, hits)
    [mirror] = json.loads(kbsync(docs, state, "status", "--json"))["mirrors"]
    assert mirror["documents"]["ready"] == len(list(docs.iterdir()))
    assert json.loads(kbsync(docs, state, "verify", "--json"))["mirrors"][0]["ok"]


def environ(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": "/usr/bin:/bin"}


def kbsync(docs: Path, state: Path, *words: str) -> str:
    result = warm.run(
        [*words, "--folder", docs, "--state-dir", state],
        cwd=docs.parent, env=environ(docs.parent), text=True,
    )  # fmt: skip
    assert result.returncode == 0, (state.name, words, result.stdout, result.stderr)
    return str(result.stdout)
