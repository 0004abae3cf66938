"""A mirror in a base that others use and damage: code common to all services."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import NoReturn

from tests.bench.bench import OwnDocument
from tests.bench.zhipu import ZhipuBench
from tests.remote.world import sha_of_folder
from tests.torture.exercise import PromiseBroken, Tally

FILES, TURNS, MAX_MESS = 30, 4, 4
DAY = 86400.0

Mess = Callable[[], Awaitable[None]]


class MessyMirror:
    """A mirror's life, turn by turn.

    `steady`: files that nobody changes in this turn: searches always find them, and none is sent.
    `uploads_before`: the number of uploads before the turn. `expected_findings`: paths that `verify` has to
    report, by kind of problem.
    `late`: seconds after which an upload may arrive. `untold`: our documents whose name or mark others
    changed, by id, with their files.
    """

    late: Sequence[float]

    def __init__(self, bench: ZhipuBench, chance: random.Random) -> None:
        self.bench, self.world, self.chance = bench, bench.world, chance
        self.tally = Tally()
        self.steady: set[str] = set()
        self.gaps: set[str] = set()
        self.expected_findings: dict[str, set[str]] = {}
        self.untold: dict[str, str] = {}
        self.number = self.uploads_before = 0

    # -- implemented for each service ------------------------------------------------------------------------

    def messes(self) -> Sequence[Mess]:
        """Return the kinds of damage that others can do."""
        raise NotImplementedError

    def set_out(self) -> None:
        """Set the service's behaviour for this turn."""
        raise NotImplementedError

    async def put_in_order(self, messes: str) -> None:
        """Repair the damage. Raises `PromiseBroken`."""
        raise NotImplementedError

    def document_digests(self) -> Mapping[str, Sequence[str]]:
        """Return the SHA-256 of our documents of each file."""
        return self.bench.documents()

    def covered(self) -> set[str]:
        """Return files that are or once were searchable."""
        return self.bench.searchable()

    def violations(self) -> list[str]:
        """Return requests that broke the service's rules or affected other users' documents."""
        return self.bench.violations()

    async def go_over(self) -> None:
        """Run a pass, which sends edited files."""
        await self.world.once()

    # -- damage ----------------------------------------------------------------------------------------------

    def pick(self) -> str:
        """Pick a file, which is no longer steady."""
        path = self.chance.choice(sorted(self.steady))
        self.steady.discard(path)
        return path

    def new_text(self) -> str:
        self.number += 1
        return f"text number {self.number}"

    def text(self, path: str) -> str:
        return (self.world.root / path).read_text()

    def owned(self) -> Iterator[tuple[str, OwnDocument]]:
        """Yield our documents with their files."""
        for document in self.bench.ours():
            yield self.untold.get(document.id, document.path), document

    def document_of(self, path: str) -> OwnDocument:
        """Return a file's document."""
        return next(document for owned_path, document in self.owned() if owned_path == path)

    def want(self, kind: str, path: str) -> None:
        self.expected_findings.setdefault(kind, set()).add(path)

    async def delete_ours(self) -> None:
        """Delete one of our documents as another user."""
        path = self.pick()
        self.bench.take_away(self.document_of(path))
        self.want("missing", path)

    async def come_late(self) -> None:
        """Let an upload finish after its response was lost, perhaps long after kbsync gave it up."""
        path = f"late{self.number}.md"
        self.bench.come_late(path, self.chance.choice(self.late))
        self.world.write(path, self.new_text())
        await self.go_over()

    async def leave(self) -> None:
        """Delete other users' own documents."""
        if self.world.foreign:
            deleted_id = self.chance.choice(sorted(self.world.foreign))
            self.world.foreign.discard(deleted_id)
            self.world.app.put_foreign({"delete": deleted_id})

    async def edit(self) -> None:
        """Change a file that no pass has seen yet."""
        path = self.pick()
        self.world.write(path, self.new_text())
        self.want("stale", path)

    # -- a turn ----------------------------------------------------------------------------------------

    async def live(self, turns: int) -> Tally:
        """Run a first pass, then this many turns."""
        async with self.bench.serving():
            await self.world.mirrored(FILES)
            self.bench.on_change = lambda _: self.check_for_gaps()
            for _ in range(turns):
                await self.turn()
        return self.tally

    def check_for_gaps(self) -> None:
        self.gaps |= self.steady - self.covered()

    async def turn(self) -> None:
        """Damage the base and repair it. Raises `PromiseBroken`."""
        self.set_out()
        self.expected_findings = {}
        self.steady, self.uploads_before = set(sha_of_folder(self.world)), len(self.bench.uploads())
        done = [self.chance.choice(self.messes()) for _ in range(self.chance.randint(1, MAX_MESS))]
        for mess in done:
            await mess()
            self.world.clock.now += 10
        self.tally.faults += len(done)
        await self.put_in_order(", ".join(mess.__name__ for mess in done))

    def blame(self, sentence: str) -> NoReturn:
        """Report a broken promise."""
        self.tally.violations += 1
        raise PromiseBroken(sentence, self.tally)

    def check(self, messes: str, *, is_well: bool, evidence: object) -> None:
        """Require that folder and base are equal, and nothing else changed. Raises `PromiseBroken`."""
        expected = sha_of_folder(self.world)
        wrong = self.tally.compare(expected, self.document_digests())
        sent = {digest for _, digest in self.bench.uploads()[self.uploads_before :]}
        sent_again = {path for path in self.steady if expected.get(path, [""])[0] in sent}
        self.tally.duplicated += len(sent_again)
        self.tally.gaps += len(self.gaps)
        self.tally.foreign += self.bench.touched()
        violations = self.violations()
        self.tally.violations += len(violations)
        statuses = self.world.statuses()
        if self.tally.broken or not is_well or set(statuses) != {"ready"}:
            what = (
                f"{wrong}, {sorted(self.gaps)} were gone, {sorted(sent_again)} were sent again, {violations}"
            )
            raise PromiseBroken(f"{messes}: {what}; {statuses} {evidence}", self.tally)
