"""Runs the real daemon on a real folder for a while, with kills and obstacles, then checks the result.

It uses Zhipu's stand-in over TCP, and the built-in knowledge base. `kbsync` is always a separate process
(with shorter pauses between tries, see `tests/cli/impatient.py`).
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from kbsync.errors import Rejected
from tests.cli.sandbox import LONGEST, Daemon, eventually
from tests.cli.zhipu import ZhipuSandbox, digests_in, zhipu_sandbox
from tests.crash.kills_local import texts_in_base, texts_on_disk
from tests.crash.kills_zhipu import foreign, plant
from tests.torture.exercise import Exercise, Tally

ROUNDS, STEPS, PAUSE = 2, 30, 0.4
CALM = 120.0
"""Seconds within which everything is mirrored, on a busy machine."""

PATHS = [*(f"f{n}.md" for n in range(10)), *(f"d/g{n}.md" for n in range(5)), "d/e/h.md", "名.md"]
NO_HOLDS = "deletions: {hold_fraction: 1.0, hold_count: 1000}"
FAULTS = ["lost-answer", "close-before", "cut-body", "reset-sending", "reset-connect"]
LOSING = ("lost-answer", "cut-body")
"""The work is done but the response is lost."""


class Soak:
    """One folder and one daemon, with random actions from `chance`."""

    def __init__(self, desk: ZhipuSandbox, chance: random.Random) -> None:
        self.desk = desk
        self.chance = chance
        self.tally = Tally()
        self.number = 0
        desk.write("keep.md", "the file that is never deleted\n")
        for path in PATHS[:8]:
            self.write(path)
        self.daemon = self.start()

    def start(self) -> Daemon:
        return self.desk.watch("--log-level", "info", hurried=True)

    def write(self, path: str) -> None:
        self.number += 1
        self.desk.write(path, f"text number {self.number}\n")

    def present(self) -> list[Path]:
        return sorted(path for path in self.desk.docs.rglob("*.md") if path.name != "keep.md")

    # -- actions -------------------------------------------------------------------------------------------

    @property
    def steps(self) -> list[Callable[[], object]]:
        return [*[self.edit] * 3, self.delete, self.rename, self.move, self.touch, *[self.signal] * 2]

    def edit(self) -> None:
        for _ in range(self.chance.randrange(1, 5)):
            self.write(self.chance.choice(PATHS))

    def delete(self) -> None:
        for path in self.chance.sample(self.present(), min(2, len(self.present()))):
            path.unlink()

    def rename(self) -> None:
        for path in self.present()[:1]:
            path.rename(self.desk.docs / self.chance.choice(PATHS[:10]))

    def move(self) -> None:
        """Move a directory, and perhaps move it back."""
        first, second = (self.desk.docs / name for name in self.chance.sample(["d", "moved"], 2))
        if first.is_dir():
            shutil.rmtree(second, ignore_errors=True)
            first.rename(second)

    def touch(self) -> None:
        for path in self.chance.sample(self.present(), min(3, len(self.present()))):
            path.touch()

    def signal(self) -> None:
        number = self.chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
        if number is not signal.SIGKILL:  # which it handles once it has started
            self.await_loop()
        self.daemon.send_signal(number)
        if number is not signal.SIGHUP:
            code = self.daemon.process.wait(LONGEST)
            assert code in (-signal.SIGKILL, 0), self.daemon.log.read_text()
            self.tally.crashes += number is signal.SIGKILL
            self.daemon = self.start()

    def await_loop(self) -> None:
        """Wait for the daemon's first message about its mirror or documents: from then on it handles
        signals.
        """
        eventually(lambda: len(self.daemon.lines()) > 1, LONGEST)

    def live(self) -> Tally:
        for _ in range(ROUNDS):
            for _ in range(STEPS):
                self.chance.choice(self.steps)()
                self.tally.steps += 1
                time.sleep(self.chance.uniform(0.0, PAUSE))
            self.calm()
        return self.tally

    # -- checks --------------------------------------------------------------------------------------------

    def calm(self) -> None:
        self.desk.run("retry")
        try:
            eventually(self.is_settled, CALM)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from None
        self.await_loop()
        assert self.daemon.end() == 0, self.story()
        self.check()
        self.daemon = self.start()

    def is_settled(self) -> bool:
        """Return whether everything is mirrored; approve holds, since no limit lets all documents
        disappear.
        """
        if self.is_mirrored():
            return True
        self.desk.run("approve", "--yes")
        return False

    def story(self) -> str:
        status = self.desk.run("status", "--json", "--documents").out
        return f"{status}\n{self.daemon.log.read_text()[-4000:]}"

    def is_mirrored(self) -> bool:
        raise NotImplementedError

    def check(self) -> None:
        verified = self.desk.go("verify", "--json")
        assert verified.code == 0, verified.out
        assert self.is_mirrored(), "it was mirrored and is not any more"


class RemoteSoak(Soak):
    """A soak with the stand-in, which sometimes stops, loses responses, and has other users."""

    def __init__(self, desk: ZhipuSandbox, chance: random.Random) -> None:
        desk.aim(NO_HOLDS)
        desk.service.turn(vectorize=[0.05, 0.4], list_lag=0.3)
        super().__init__(desk, chance)
        self.losses = 0
        self.foreign_before = plant(desk)

    @property
    def steps(self) -> list[Callable[[], object]]:
        return [*super().steps, self.fault, self.fault, self.go_away]

    def fault(self) -> None:
        kind, op = self.chance.choice(FAULTS), self.chance.choice(["upload", "upload", "*"])
        self.desk.service.play(kind, op=op)
        self.tally.faults += 1
        self.losses += kind in LOSING

    def go_away(self) -> None:
        self.desk.service.leave()
        time.sleep(self.chance.uniform(0.1, 1.0))
        self.desk.service.arrive()
        self.tally.faults += 1
        self.losses += 1  # requests in progress got no response

    def calm(self) -> None:
        self.desk.service.server.faults.clear()
        super().calm()

    def is_mirrored(self) -> bool:
        return self.desk.service.digests() == digests_in(self.desk.docs)

    def check(self) -> None:
        super().check()
        assert foreign(self.desk) == self.foreign_before
        assert self.desk.service.violations() == []
        stored = Counter(entry["name"] for entry in self.desk.service.effects("stored"))
        twins = {name: n for name, n in stored.items() if n > 1}
        assert sum(twins.values()) - len(twins) <= self.losses, f"{twins}, {self.losses} answers were lost"


class LocalSoak(Soak):
    """A soak with the built-in knowledge base, read by its own code."""

    def __init__(self, desk: ZhipuSandbox, chance: random.Random) -> None:
        desk.configure(NO_HOLDS)
        super().__init__(desk, chance)

    def is_mirrored(self) -> bool:
        docs = self.desk.docs
        with contextlib.suppress(Rejected):  # a listed document is gone again: kbsync is working
            return texts_in_base(docs, self.desk.state, "handbook") == texts_on_disk(docs)
        return False


def soak(kind: type[RemoteSoak | LocalSoak], number: int, scratch: Path) -> Tally:
    """Run for about 40 s."""
    with zhipu_sandbox(scratch, latency=0.01) as desk:
        return kind(desk, random.Random(number)).live()


EXERCISES: dict[str, Exercise] = {"soak": partial(soak, RemoteSoak), "soak-local": partial(soak, LocalSoak)}
