"""One trial of a mirror with a fault: four mirrored files, edits, the fault, and the checks afterwards."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import apsw

from kbsync.errors import StateError
from kbsync.targets.http.client import Client
from kbsync.targets.http.connection import Endpoint, Timeouts
from kbsync_standin.kinds import TRANSPORT
from tests.bench.bench import Change
from tests.bench.zhipu import CHANGED, ZhipuBench
from tests.crash.harness import Guillotine
from tests.remote.world import sha_of_folder
from tests.services.rows import ROWS

FILES = ("kept.md", "changed.md", "gone.md", "renamed.md")
LASTING = ("kept.md", "changed.md")
PASSES = 8
PAUSES = (90.0, 90.0, 90.0, 90_000.0)
"""Seconds of the virtual clock from one pass to the next; the last one repeats."""

MAX_REQUESTS = 150
"""In all passes of one trial, for five files: many faults make a pass read the list several times."""

MAX_SECONDS = 2 * 3600.0
"""Of the virtual clock, in all passes of one trial."""

IN_CONNECTION = TRANSPORT.keys() - {
    "status",
    "redirect",
    "truncated-json",
    "empty",
    "html",
    "bom",
    "wrong-type",
    "gzip",
    "no-date",
}
"""The faults that need a TCP connection; all others change responses only."""

HASTY = Timeouts(connect=0.3, write=0.3, read=0.15, whole=0.4)


@dataclass(frozen=True, slots=True)
class Trial:
    """A fault of one operation.

    `under`: switches of the service during the trial. `blames_document`: the service rejects a document,
    which a person sees, and it is sent again on request. `asking`: the operation that a pass is made to call,
    if it is another one. `twins`: documents that can't be proven ours stay next to new ones, and `verify`
    reports them.
    """

    kind: str
    op: str
    args: Mapping[str, Any] = field(default_factory=dict)
    effect: bool = True
    times: int = 1
    under: Mapping[str, Any] = field(default_factory=dict)
    blames_document: bool = False
    asking: str = ""
    twins: bool = False

    def __str__(self) -> str:
        pairs = [f"{name}={value}" for name, value in (*self.args.items(), *self.under.items())]
        undone = () if self.effect else ("undone",)
        often = (f"x{self.times}",) if self.times > 1 else ()
        return "-".join((self.kind, self.op, *pairs, *undone, *often))


def edit(bench: ZhipuBench) -> None:
    """Change one file, add one, move one, delete one."""
    world = bench.world
    world.clock.now += 10
    world.write("changed.md", CHANGED)
    world.write("new.md", "a new file")
    world.move("renamed.md", "sub/renamed.md")
    world.delete("gone.md")


# -- one trial ---------------------------------------------------------------------------------------------


class FaultyMirror:
    """A mirror at a service with faults, and its results."""

    def __init__(self, bench: ZhipuBench) -> None:
        self.bench, self.world = bench, bench.world
        self.gaps: list[str] = []
        self.lasting: tuple[str, ...] = ()
        self.has_retried = False
        self.may_have_twins = self.is_stuck = False
        self.requests = 0

        def check_for_gaps(_: Change) -> None:
            """Check that files that always existed keep a document that was searchable once."""
            covered = bench.searchable()
            self.gaps += [path for path in self.lasting if path not in covered]

        bench.on_change = check_for_gaps

    async def begin(self, *ops: str) -> None:
        """Mirror four files next to another user's document; then cause a pass to call `ops`."""
        if "file" in ops:
            self.world.settings = replace(self.world.settings, names="plain")
        for name in FILES:
            self.world.write(name, f"the first text of {name}")
        await self.world.once()
        self.lasting = LASTING
        self.bench.add_foreign("guide.md")
        self.requests = self.world.request_count()
        self.bench.edits.get(ops[0], edit)(self.bench)
        for op in ops:
            self.bench.provoke(op)

    def play(self, trial: Trial) -> None:
        """Start the fault."""
        self.is_stuck |= (trial.kind, trial.op) == ("stuck", "update")
        args = dict(trial.args)
        if "to" in args:
            args["to"] = args["to"].replace("HERE", self.world.server.url)
        self.world.turn(**trial.under)
        self.world.play(trial.kind, op=trial.op, effect=trial.effect, times=trial.times, args=args)

    async def converge(self) -> None:
        """Run passes until everything is right; time passes between them, and a person requests one retry."""
        spent = 0.0
        for number in range(PASSES):
            began = self.world.clock.now
            end = await self.world.once()
            spent += self.world.clock.now - began
            if end.complete and self.world.run.halt is None and self.is_equal():
                break
            self.world.clock.now += PAUSES[min(number, len(PAUSES) - 1)]
            if number >= 2 and "failed" in self.world.statuses():
                self.has_retried = True
                self.world.post_request("retry")
        else:
            remote, here = self.world.bytes_by_path(), sha_of_folder(self.world)
            paths = sorted(path for path in {*remote, *here} if remote.get(path) != here.get(path))
            raise AssertionError(f"{end} {self.world.run.halt} {self.world.statuses()} differs: {paths}")
        assert spent < MAX_SECONDS, f"{spent:.0f} s"

    def is_equal(self) -> bool:
        """Return whether every file has exactly one document and the state agrees; twins only if allowed."""
        remote, here = self.world.bytes_by_path(), sha_of_folder(self.world)
        is_covered = all(set(digests) <= set(remote.get(path, ())) for path, digests in here.items())
        fits = is_covered if self.may_have_twins else remote == here
        return fits and set(self.world.statuses()) == {"ready"}

    def check(self, most: int = MAX_REQUESTS) -> None:
        """Check that nothing foreign changed, nothing was ever absent, and requests were few."""
        assert self.gaps == []
        assert self.bench.touched() == 0
        assert self.bench.violations() == []
        requests_made = self.world.request_count() - self.requests
        assert requests_made < most, f"{requests_made} requests {dict(self.world.server.requests.by_op)}"

    def stored(self) -> int:
        """Return how many times the same bytes were stored for one path at most."""
        return max(Counter(self.bench.uploads()).values())

    async def crash(self, number: int) -> None:
        """Run a pass that is killed at a commit or request, if it has so many."""
        await self.world.crash(Guillotine(stop_at=number))

    async def fill_disk(self, first: int, many: int) -> None:
        """Run a pass in which the disk is full for `many` commits from the `first` on."""
        commits = itertools.count(1)

        def commit(moment: str) -> None:
            if moment == "before" and first <= next(commits) < first + many:
                raise apsw.FullError("database or disk is full")

        self.world.on_commit = commit
        with contextlib.suppress(StateError):
            await self.world.once()
        self.world.on_commit = None

    async def meet_rival(self, number: int) -> None:
        """Let another client with its own state run a pass while ours is suspended in the middle of one.

        If an update in place never ends, the client can't know that an older version still serves: it creates
        that document again.
        """
        self.may_have_twins = True
        if self.is_stuck:
            self.lasting = ()
        ours, theirs = self.world.state, self.world.state.with_name("rival")
        theirs.mkdir()
        await self.crash(number)
        self.world.state = theirs
        await self.world.once()
        self.world.state = ours


@dataclass(frozen=True, slots=True)
class Calamity:
    """A failure of the client itself."""

    name: str
    strike: Callable[[FaultyMirror], Awaitable[object]]


@asynccontextmanager
async def faulty(service: str, folder: Path, *trials: Trial) -> AsyncIterator[FaultyMirror]:
    """Create a mirror below `folder` for `trials`, with an impatient client."""
    init = Client.__init__

    def in_haste(self: Client, endpoint: Endpoint, *args: Any, **options: Any) -> None:
        init(self, replace(endpoint, timeouts=HASTY), *args, **options)

    folder.mkdir(exist_ok=True)
    with mock.patch.object(Client, "__init__", in_haste):
        bench = ROWS[service].make_bench(folder, give_up=30.0)
        bench.world.is_offline = not any(trial.kind in IN_CONNECTION for trial in trials)
        async with bench.serving():
            mirror = FaultyMirror(bench)
            mirror.may_have_twins = any(trial.twins for trial in trials)
            await mirror.begin(*(trial.asking or trial.op for trial in trials))
            for trial in trials:
                mirror.play(trial)
            yield mirror


async def overcome(
    service: str, folder: Path, *trials: Trial, calamity: Calamity | None = None
) -> FaultyMirror:
    """Run one fault, several at once, or one with a failure of the client.

    Raises `AssertionError` with their names if a promise is broken or a single fault never occurred.
    """
    is_alone = len(trials) == 1 and calamity is None
    try:
        async with faulty(service, folder, *trials) as mirror:
            if calamity is not None:
                await calamity.strike(mirror)
            await mirror.converge()
            mirror.check(MAX_REQUESTS if is_alone else 2 * MAX_REQUESTS)
            if is_alone:
                [trial] = trials
                untouched = (trial.kind, trial.op, "*", trial.times)
                waiting = [
                    (fault.kind, fault.op, fault.match, fault.times)
                    for fault in mirror.world.server.faults.all
                ]
                assert untouched not in waiting, "the fault was not met"
                assert trial.blames_document or not mirror.has_retried, "a document had to be asked for"
            return mirror
    except AssertionError as error:
        names = " and ".join(map(str, trials if calamity is None else (*trials, calamity.name)))
        raise AssertionError(f"{names}: {error}") from error
