"""Kills the real process at random moments while it mirrors into Zhipu's stand-in over TCP."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.sandbox import LONGEST
from tests.cli.zhipu import ZhipuSandbox, digests_in, zhipu_sandbox
from tests.torture.exercise import PromiseBroken, Tally

FILES = 60
KEPT = "kept.md"


@contextmanager
def busy_desk(directory: Path) -> Iterator[ZhipuSandbox]:
    """A mirror whose service responds after 40 ms, lists with 300 ms lag, and needs 50 to 400 ms to index."""
    with zhipu_sandbox(directory, latency=0.04) as desk:
        desk.service.turn(vectorize=[0.05, 0.4], list_lag=0.3)
        for n in range(FILES):
            folder = "" if n % 3 else "guides/"
            desk.write(f"{folder}f{n}.md", f"text of f{n}\n")
        desk.write(KEPT, "this file is not touched\n")
        yield desk


def kill(desk: ZhipuSandbox, process: subprocess.Popen[bytes], chance: random.Random) -> bool:
    """Kill the process somewhere within its work; return False if it ended before.

    The start-up time is irrelevant, so the moment counts from its first request, or from its first upload,
    after which more can go wrong.
    """
    op = chance.choice(["", "upload", "upload"])
    before = desk.service.request_count(op)
    deadline = time.monotonic() + LONGEST
    while desk.service.request_count(op) == before and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(chance.uniform(0.0, 0.3))
    process.send_signal(signal.SIGKILL)
    return process.wait(LONGEST) == -signal.SIGKILL


def write_more(desk: ZhipuSandbox, turn: int) -> None:
    """Write more files, so that every run has something to send."""
    for n in range(3):
        desk.write(f"new/{turn}-{n}.md", f"new {n} in turn {turn}\n")


def plant(desk: ZhipuSandbox) -> dict[str, str]:
    """Add other users' documents, one with the name of a file of ours."""
    for name in ("guide.md", "f1.md"):
        desk.service.plant(name, f"somebody's {name}")
    return foreign(desk)


def foreign(desk: ZhipuSandbox) -> dict[str, str]:
    """Return the SHA-256 of other users' documents by id."""
    return {
        document["id"]: document["sha256"] for document in desk.service.documents() if document["foreign"]
    }


def edit(desk: ZhipuSandbox, turn: int, chance: random.Random) -> set[str]:
    """Make every kind of change, each with a new text; return the deleted paths."""
    files = sorted(path for path in desk.docs.rglob("*.md") if path.name != KEPT)
    changed, moved, deleted = chance.sample(files, 3)
    changed.write_text(f"changed in turn {turn}\n")
    moved.rename(moved.with_name(f"moved{turn}.md"))
    deleted.unlink()
    write_more(desk, turn)
    return {str(path.relative_to(desk.docs)) for path in (moved, deleted)}


def searchable(desk: ZhipuSandbox) -> set[str]:
    """Return the paths that searches find now, in any version."""
    return {
        path
        for path, documents in desk.service.by_path().items()
        if any(document["stat"] == 1 for document in documents)
    }


def check_mirror(desk: ZhipuSandbox, foreign_before: dict[str, str], tally: Tally) -> None:
    """Require one document per file with the right bytes, other users' untouched, and each version stored
    once.

    Raises `PromiseBroken`.
    """
    desk.once()
    wrong = tally.compare(digests_in(desk.docs), desk.service.digests())
    tally.lost += sum(document["stat"] != 1 for document in desk.service.ours())
    tally.foreign += len(foreign_before.items() ^ foreign(desk).items())
    stored = Counter(entry["name"] for entry in desk.service.effects("stored"))
    tally.duplicated += sum(times > 1 for times in stored.values())
    violations = desk.service.violations()
    tally.violations += len(violations)
    verified = desk.go("verify", "--json")
    tally.violations += (verified.code, verified.json["mirrors"][0]["foreign"]) != (0, len(foreign_before))
    if tally.broken:
        raise PromiseBroken(f"{tally}; {wrong}; {violations}; {verified.json}", tally)


def kill_in_first_mirror(desk: ZhipuSandbox, chance: random.Random, kills: int) -> Tally:
    """Kill it while everything has yet to be sent."""
    others, tally = plant(desk), Tally()
    while tally.crashes < kills and tally.steps < 2 * kills:
        write_more(desk, tally.steps)
        tally.crashes += kill(desk, desk.start("--once"), chance)
        tally.steps += 1
    check_mirror(desk, others, tally)
    assert len(desk.service.effects("stored")) == len(digests_in(desk.docs))
    return tally


def kill_while_editing(desk: ZhipuSandbox, chance: random.Random, kills: int) -> Tally:
    """Kill passes and daemons in turn while files change."""
    desk.aim("deletions: {hold_fraction: 1.0, hold_count: 1000}")
    desk.once()
    others, lasting, tally = plant(desk), searchable(desk), Tally()
    document_id = desk.service.document(KEPT)["id"]
    while tally.crashes < kills and tally.steps < 2 * kills:
        turn = tally.steps
        lasting -= edit(desk, turn, chance)
        process = desk.start("-q", *(["--once"] if turn % 2 else []))
        if not turn % 2:  # the daemon also meets changes while it works
            time.sleep(chance.uniform(0.2, 0.5))
            desk.write("hot.md", f"hot in turn {turn}\n")
        tally.crashes += kill(desk, process, chance)
        tally.steps += 1
        if missing := lasting - searchable(desk):
            tally.gaps += len(missing)
            raise PromiseBroken(f"not found after a kill: {missing}", tally)
    check_mirror(desk, others, tally)
    assert desk.service.document(KEPT)["id"] == document_id
    return tally


def kill_while_files_change(seed: int, folder: Path, kills: int) -> Tally:
    """Do both, with the seed's choices."""
    chance = random.Random(seed)
    with busy_desk(folder) as desk:
        return chance.choice([kill_in_first_mirror, kill_while_editing])(desk, chance, kills)
