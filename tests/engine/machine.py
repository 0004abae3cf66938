"""The whole mirror as a state machine: actions of people, disks, services and crashes, in any order.

`tests/engine/oracle.py` says what must be true; the knowledge base is a bench of `tests/bench`. `trace`
records every step, so that a failure can be reproduced without its seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from kbsync.core.model import UploadState
from kbsync.engine.verify import Verification, repair_request, verify_mirror
from kbsync.errors import TargetError
from kbsync.state.read_only import opened
from tests.bench.bench import Change, SharedBench
from tests.bench.memory import MemoryBench
from tests.crash.harness import Guillotine
from tests.engine.oracle import Oracle
from tests.engine.world import World
from tests.memory.base import MemoryBase
from tests.memory.behaviour import Behaviour
from tests.memory.target import MemoryTarget
from tests.memory.variants import (
    AbleMemory,
    ForgetfulMemory,
    ReembeddingMemory,
    RenamingMemory,
    UpdatingMemory,
)

SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""A file system where commits are fast."""

PATHS = [
    *(f"f{n}.md" for n in range(8)),
    "d/a.md",
    "d/b.md",
    "d/e/c.md",
    "moved/a.md",
    "名.md",
    "odd\nname.md",
]
FOLDERS = ["d", "d/e", "moved", "else", "f0.md"]
EXCLUSIONS: list[tuple[str, ...]] = [(), (), ("d/",), ("moved/", "d/e/")]
PREFIXES = ["", "", "one-", "two-"]
VARIANTS: list[type[MemoryTarget]] = [
    MemoryTarget,
    RenamingMemory,
    UpdatingMemory,
    AbleMemory,
    ReembeddingMemory,
    ForgetfulMemory,
    ForgetfulMemory,
]
KEPT = "keep.md"
"""A file that always exists, so that a mirror is seldom empty."""

FAULTS = st.sampled_from(["lost", "lost", "done", "done", "down", "refused", "full"])
NUMBERS = st.integers(0, 40)

_open = os.open


class Obstacles:
    """Paths that can't be opened while they exist, not even by root, which ignores modes."""

    def __init__(self) -> None:
        self.blocked_paths: set[str] = set()

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if self.blocked_paths:
            folder = "" if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
            full_path = os.path.join(folder, os.fspath(path))
            if full_path in self.blocked_paths and os.path.lexists(full_path):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return _open(path, flags, mode, dir_fd=dir_fd)

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        os.open = self.open
        try:
            yield
        finally:
            os.open = _open


class MirrorMachine(RuleBasedStateMachine):
    """A mirror in memory. Counters belong to the class, so that they cover a run of many machines."""

    steps: ClassVar[int] = 0
    crashes: ClassVar[int] = 0
    faults: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory(dir=SCRATCH)
        self.loop = asyncio.new_event_loop()
        self.oracle = Oracle()
        self.obstacles = Obstacles()
        self.trace: list[str] = []
        self.bench: SharedBench
        self.service = contextlib.AsyncExitStack()
        self.numbers = itertools.count(1)
        self.times = itertools.count(1)
        self.is_hidden = False
        self.removed: dict[str, str] = {}

    @property
    def world(self) -> World:
        return self.bench.world

    def note(self, *words: object) -> None:
        """Begin a step, after checking for documents that became searchable since the last one."""
        type(self).steps += 1
        if hasattr(self, "bench"):
            self.oracle.check(self.search_results(), "some time")
        self.trace.append(" ".join(map(repr, words)))

    # -- startup ---------------------------------------------------------------------------------------

    @initialize(
        variant=st.sampled_from(VARIANTS),
        lag=st.sampled_from([0.0, 0.0, 3.0]),
        indexing=st.sampled_from([0.0, 0.0, 5.0]),
        bad=st.sampled_from(["", "", "0", "01"]),
    )
    def begin(self, variant: type[MemoryTarget], lag: float, indexing: float, bad: str) -> None:
        self.note("begin", variant.__name__, lag, indexing, bad)
        lag = max(lag, 1.0) if variant is ForgetfulMemory else lag
        behaviour = Behaviour(indexing_seconds=indexing, list_lag=lag)
        world = self.make_world(Path(self.scratch.name), variant, lag)
        self.start(MemoryBench(world, behaviour, bad))

    def make_world(self, folder: Path, variant: type[MemoryTarget], lag: float) -> World:
        world = World(folder, variant, list_lag=lag, poll_first=1.0, reembed_grace=5.0)
        clock = world.clock
        world.base = MemoryBase(clock=lambda: clock.epoch + clock.now)  # a separate clock
        return world

    def start(self, bench: SharedBench) -> None:
        self.bench = bench
        bench.on_change = self.changed
        self.run(self.service.enter_async_context(bench.serving()))
        for path in (KEPT, *PATHS[:6]):
            self.write(path, self.text())

    def changed(self, change: Change) -> None:
        """Run at every change of the base."""
        if change.text is not None and change.is_sent:
            self.oracle.record_upload(change.path, change.text)
        if change.text is not None and change.fails:
            self.oracle.failed(change.path, change.text)
        self.oracle.check(self.search_results(), f"{change.op} of {change.path}")

    def search_results(self) -> list[tuple[str, str]]:
        return [
            document.search_result for document in self.bench.ours() if document.search_result is not None
        ]

    # -- the folder ------------------------------------------------------------------------------------

    @property
    def root(self) -> Path:
        """The folder's path, even while it is moved away."""
        return self.world.root.with_name("away") if self.is_hidden else self.world.root

    def text(self) -> str:
        return f"text {next(self.numbers)}"

    def write(self, path: str, text: str) -> None:
        self.clear_way(path)
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        self.stamp(file)
        self.oracle.wrote(path, text)
        self.removed.pop(path, None)

    def stamp(self, file: Path) -> None:
        """Give each change its own time: the file system's clock is coarser than these steps."""
        moment = int((self.world.clock.epoch - 5000 + 0.01 * next(self.times)) * 1e9)
        os.utime(file, ns=(moment, moment))

    def clear_way(self, path: str) -> None:
        """Remove a folder at `path`, or a file at one of its parent folders."""
        for above in itertools.accumulate(path.split("/")[:-1], lambda a, b: f"{a}/{b}"):
            if (self.root / above).is_file():
                self.remove(above)
        if (self.root / path).is_dir():
            for below in [p for p in self.oracle.files if p.startswith(f"{path}/")]:
                self.remove(below)
            shutil.rmtree(self.root / path)

    def remove(self, path: str) -> None:
        (self.root / path).unlink()
        self.removed[path] = self.oracle.files[path]
        self.oracle.record_deletion(path)

    def present(self) -> list[str]:
        return sorted(path for path in self.oracle.files if path != KEPT)

    def pick(self, number: int) -> str | None:
        present = self.present()
        return present[number % len(present)] if present else None

    def is_reachable(self, path: str) -> bool:
        full_path = os.fspath(self.world.root / path)
        return not any(
            full_path == blocked or full_path.startswith(f"{blocked}/")
            for blocked in self.obstacles.blocked_paths
        )

    @rule(path=st.sampled_from(PATHS))
    def edit(self, path: str) -> None:
        self.note("edit", path)
        self.write(path, self.text())

    @rule(number=NUMBERS, path=st.sampled_from(PATHS))
    def copy(self, number: int, path: str) -> None:
        self.note("copy", number, path)
        source = self.pick(number)
        if source is not None:
            self.write(path, self.oracle.files[source])

    @rule(number=NUMBERS)
    def save_again(self, number: int) -> None:
        self.note("save_again", number)
        path = self.pick(number)
        if path is not None:
            (self.root / path).write_text(self.oracle.files[path])
            self.stamp(self.root / path)

    @rule(number=NUMBERS)
    def replace_atomically(self, number: int) -> None:
        """Replace a file as editors do: a new file takes the old one's place."""
        self.note("replace_atomically", number)
        path = self.pick(number)
        if path is not None:
            text = self.text()
            beside = self.root / f"{path}.tmp"
            beside.write_text(text)
            self.stamp(beside)
            beside.rename(self.root / path)
            self.oracle.wrote(path, text)

    @rule(number=NUMBERS, path=st.sampled_from(PATHS))
    def rename(self, number: int, path: str) -> None:
        self.note("rename", number, path)
        source = self.pick(number)
        if source is not None and source != path and not path.startswith(f"{source}/"):
            self.clear_way(path)
            if source in self.oracle.files:
                self.move(source, path)

    def move(self, old: str, new: str) -> None:
        (self.root / new).parent.mkdir(parents=True, exist_ok=True)
        (self.root / old).rename(self.root / new)
        self.record_move(old, new)

    def record_move(self, old: str, new: str) -> None:
        followed = self.is_reachable(old) and self.is_reachable(new)
        self.oracle.moved(old, new, is_followed=followed)
        self.removed.pop(new, None)

    @rule(first=NUMBERS, second=NUMBERS)
    def swap(self, first: int, second: int) -> None:
        self.note("swap", first, second)
        a, b = self.pick(first), self.pick(second)
        if a is None or b is None or a == b:
            return
        beside = self.root / "swapping"
        (self.root / a).rename(beside)
        (self.root / b).rename(self.root / a)
        beside.rename(self.root / b)
        self.oracle.swapped(a, b)

    @rule(old=st.sampled_from(FOLDERS), new=st.sampled_from(FOLDERS))
    def move_folder(self, old: str, new: str) -> None:
        self.note("move_folder", old, new)
        inside = new.startswith(f"{old}/") or old.startswith(f"{new}/")
        if old == new or inside or not (self.root / old).is_dir():
            return
        self.clear_way(f"{new}/x")
        if (self.root / new).exists():
            for path in [p for p in self.oracle.files if p.startswith(f"{new}/")]:
                self.remove(path)
            shutil.rmtree(self.root / new)
        (self.root / new).parent.mkdir(parents=True, exist_ok=True)
        (self.root / old).rename(self.root / new)
        for path in [p for p in self.present() if p.startswith(f"{old}/")]:
            self.record_move(path, new + path.removeprefix(old))

    @rule(number=NUMBERS)
    def delete(self, number: int) -> None:
        self.note("delete", number)
        path = self.pick(number)
        if path is not None:
            self.remove(path)

    @rule(sparing=st.integers(0, 2))
    def delete_many(self, sparing: int) -> None:
        self.note("delete_many", sparing)
        searchable = {
            document.search_result[0]
            for document in self.bench.ours()
            if document.search_result and document.id not in self.oracle.leftovers
        }
        paths = self.present()[sparing:]
        going = [p for p in paths if p in searchable and self.oracle.is_wanted(p) and self.oracle.was_seen(p)]
        for path in paths:
            self.remove(path)
        going = [path for path in going if not self.oracle.is_carried_off(path)]
        if (
            len(going) > 5
            and len(going) > 0.4 * len(self.search_results())
            and not self.obstacles.blocked_paths
        ):
            self.oracle.hold_for_approval(going)

    @rule(n=st.integers(1, 12))
    def bring_back(self, n: int) -> None:
        """Restore deleted files unchanged."""
        self.note("bring_back", n)
        for path, text in list(self.removed.items())[-n:]:
            self.write(path, text)

    # -- blocked paths ---------------------------------------------------------------------------------

    @precondition(lambda self: len(self.obstacles.blocked_paths) < 2)
    @rule(path=st.sampled_from([*PATHS, "d", "d/e", "moved"]))
    def block(self, path: str) -> None:
        self.note("block", path)
        self.obstacles.blocked_paths.add(os.fspath(self.world.root / path))
        for path in list(self.oracle.files):
            if not self.is_reachable(path):
                self.oracle.hid(path)

    @precondition(lambda self: self.obstacles.blocked_paths)
    @rule()
    def unblock(self) -> None:
        self.note("unblock")
        self.obstacles.blocked_paths.clear()

    @precondition(lambda self: not self.is_hidden)
    @rule(empty=st.booleans())
    def unmount(self, empty: bool) -> None:
        """Move the folder away; `empty` leaves an empty folder in its place."""
        self.note("unmount", empty)
        self.world.root.rename(self.world.root.with_name("away"))
        self.is_hidden = True
        if empty:
            self.world.root.mkdir()

    @precondition(lambda self: self.is_hidden)
    @rule()
    def mount(self) -> None:
        self.note("mount")
        if self.world.root.exists():
            self.world.root.rmdir()
            self.oracle.may_send_again()  # work in progress was cancelled: that folder had no files
        self.world.root.with_name("away").rename(self.world.root)
        self.is_hidden = False

    # -- the service -----------------------------------------------------------------------------------

    @rule(
        op=st.sampled_from(["put", "put", "put", "delete", "list", "status", "rename", "base"]), kind=FAULTS
    )
    def fault(self, op: str, kind: str) -> None:
        """Lose one response, with or without its effect, or let the service refuse."""
        self.note("fault", op, kind)
        type(self).faults += 1
        kind = "lost" if kind == "refused" and op != "put" else kind
        self.bench.fault(op, kind)

    @rule(size=st.integers(0, 1), path=st.sampled_from(PATHS))
    def add_foreign(self, size: int, path: str) -> None:
        """Add another user's document, perhaps with a name of ours."""
        self.note("add_foreign", size, path)
        names = [document.name for document in self.bench.ours()]
        self.bench.add_foreign(names[-1] if names and size else path.replace("/", "_"))

    @rule(number=NUMBERS, replaced=st.booleans())
    def take_away(self, number: int, replaced: bool) -> None:
        """Delete one of our documents as another user, and perhaps put another in its place."""
        self.note("take_away", number, replaced)
        ours = self.bench.ours()
        if not ours:
            return
        document = ours[number % len(ours)]
        self.oracle.vanished(document.path)
        self.bench.take_away(document)
        if replaced:
            self.bench.add_foreign(document.name)

    # -- changes by the user ---------------------------------------------------------------------------

    @rule(what=st.sampled_from(["approve", "retry", "repair", "exclude", "prefix"]), number=NUMBERS)
    def person(self, what: str, number: int) -> None:
        """Do or change what a person can, such as the config."""
        self.note("person", what, number)
        match what:
            case "approve" if not self.is_hidden:  # nobody approves with the disk unmounted
                self.approve()
            case "retry":
                self.retry()
            case "repair":
                self.repair()
            case "exclude":
                self.exclude(EXCLUSIONS[number % len(EXCLUSIONS)])
            case _:
                self.change_prefix(PREFIXES[number % len(PREFIXES)])

    def exclude(self, excluded: tuple[str, ...]) -> None:
        self.oracle.select(excluded)
        self.world.settings = replace(self.world.settings, exclude=excluded)

    def change_prefix(self, prefix: str) -> None:
        if prefix != self.world.settings.prefix:
            self.world.settings = replace(self.world.settings, prefix=prefix)
            self.oracle.may_send_again()

    @rule()
    def lose_state(self) -> None:
        self.note("lose_state")
        self.bench.arrive()  # documents that arrive later belong to no current mirror
        for file in self.world.state.iterdir():
            file.unlink() if file.is_file() else shutil.rmtree(file)
        ours = self.bench.ours()
        self.oracle.lost_state(
            {document.id: document.search_result for document in ours},
            {document.path for document in ours if document.failed},
        )

    @rule(
        seconds=st.sampled_from([1.0, 30.0, 4000.0]),
        step=st.sampled_from([0.0, -7200.0, -60.0, 60.0, 90_000.0]),
    )
    def time_passes(self, seconds: float, step: float) -> None:
        """Let time pass; the machine's clock may be set as well."""
        self.note("time_passes", seconds, step)
        self.world.clock.now += seconds
        if step:
            self.step_clock(step)

    def step_clock(self, seconds: float) -> None:
        """Set this machine's clock, but not the service's.

        After a jump forward, a lost upload seems to be missing for longer than it is: if the list lags, it
        may be sent again.
        """
        self.world.clock.skew += seconds
        self.bench.clock_was_set()
        if seconds > 0:
            self.oracle.may_send_again()

    # -- kbsync ----------------------------------------------------------------------------------------

    def run(self, work: Any) -> Any:
        with self.obstacles.standing():
            return self.loop.run_until_complete(work)

    @rule(path=st.sampled_from(PATHS))
    def edit_and_pass(self, path: str) -> None:
        """Edit and run a pass, often enough that passes see many changes or few."""
        self.edit(path)
        self.once()

    @rule(path=st.sampled_from(PATHS), boundary=st.integers(10, 40))
    def edit_and_crash(self, path: str, boundary: int) -> None:
        self.edit(path)
        self.crash(boundary)

    def begin_pass(self) -> None:
        self.oracle.passing()
        if self.is_hidden and self.world.root.exists():
            self.oracle.passing_elsewhere()
        if self.obstacles.blocked_paths:
            self.oracle.passed_in_part(
                [path for path in self.oracle.held_paths if not self.is_reachable(path)]
            )

    @rule()
    def once(self) -> None:
        self.note("once")
        self.begin_pass()
        end = self.run(self.world.once())
        if end.complete and not self.obstacles.blocked_paths and not self.is_hidden:
            self.oracle.passed()
            if self.world.run.halt is None:
                self.oracle.carried_out()
        self.check()

    @rule(boundary=st.integers(1, 15))
    def crash(self, boundary: int) -> None:
        self.note("crash", boundary)
        self.begin_pass()
        guillotine = Guillotine(stop_at=boundary)
        self.run(self.world.crash(guillotine))
        type(self).crashes += guillotine.fallen
        self.check()

    def approve(self) -> None:
        if holds := self.holds():
            self.oracle.held_paths.clear()
            self.world.post_request("approve", holds=holds)

    def retry(self) -> None:
        if self.world.runs:
            self.world.post_request("retry")

    def repair(self) -> None:
        if self.world.runs and not self.is_hidden:
            self.mend()

    def mend(self) -> Verification:
        with contextlib.suppress(TargetError):
            findings: Verification = self.run(self.verify())
            if repair := repair_request(findings):
                self.oracle.may_send_again()
                self.world.post_request("repair", **repair)
            return findings
        return Verification("docs")

    async def verify(self) -> Verification:
        with contextlib.closing(opened(self.world.state / "state.db")) as state:
            async with self.bench.target() as target:
                return await verify_mirror(self.world.settings, target, state, self.world.clock)

    def holds(self) -> list[int]:
        if not self.world.runs or not (self.world.state / "state.db").exists():
            return []
        hold_ids: list[int] = self.world.read_state(
            lambda tx: [h.id for h in tx.holds.current(self.world.run.id)]
        )
        return hold_ids

    # -- promises --------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check what must be true at any moment."""
        broken = [*self.oracle.gaps, *self.oracle.sent_too_often(), *self.bench.violations()]
        assert broken == [], "\n".join([*broken, self.rows(), *self.trace])

    @rule()
    def calm(self) -> None:
        """Remove all obstacles and do what kbsync asks of people: then the folder must equal the base."""
        self.note("calm")
        self.obstacles.blocked_paths.clear()
        if self.is_hidden:
            self.mount()
        self.bench.heal()
        for _ in range(3):
            self.begin_pass()
            self.run(self.world.once())
            self.world.clock.now += 100.0
            result = self.mend()
            self.oracle.held_paths.clear()
            self.world.post_request("approve", holds=self.holds())
            self.world.post_request("retry")
            self.run(self.world.once())
            if result.ok and not self.holds():
                break
        self.oracle.passed()
        self.oracle.carried_out()
        self.check()
        self.check_equal(result)

    def check_equal(self, findings: Verification) -> None:
        message = "\n".join(self.trace)
        ours = self.bench.ours()
        leftovers = self.oracle.find_leftovers({document.id: document.search_result for document in ours})
        expected = sorted(self.oracle.expected_files().items())
        ids_by_result: dict[tuple[str, str] | None, list[str]] = {}
        for document in ours:
            ids_by_result.setdefault(document.search_result, []).append(document.id)
        story = f"{ids_by_result}\n{findings}\n{self.rows()}\n{message}"
        assert [pair for pair in expected if pair not in ids_by_result] == [], f"not there: {story}"
        surplus = [n for pair, ids in ids_by_result.items() if pair not in expected for n in ids]
        twins = [
            ids for pair, ids in ids_by_result.items() if pair in expected and len(set(ids) - leftovers) > 1
        ]
        assert set(surplus) <= leftovers, f"not wanted: {surplus}\n{story}"
        assert twins == [], f"twice: {twins}\n{story}"
        more_than_wanted = {*surplus, *(n for ids in ids_by_result.values() if len(ids) > 1 for n in ids)}
        self.oracle.leftovers = {
            document.id: document.search_result
            for document in ours
            if document.id in leftovers & more_than_wanted
        }

    def rows(self) -> str:
        """Return the journal's rows that aren't finished."""
        every = tuple(state for state in UploadState if not state.is_final)
        rows = self.world.read_state(lambda tx: tx.uploads.in_states(self.world.run.id, 1, every))
        lines = [
            f"{u.id % 1000} {u.state.name} {u.path} {u.label} {u.remote_id} {u.purpose.name} {u.reason}"
            for u in rows
        ]
        return "\n".join([*lines, *self.bench.story()])

    def teardown(self) -> None:
        try:
            if hasattr(self, "bench"):
                self.calm()
        finally:
            if hasattr(self, "bench"):
                self.run(self.service.aclose())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            self.scratch.cleanup()
