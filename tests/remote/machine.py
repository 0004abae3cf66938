"""The state machine with the real clients and the stand-ins, one for each service."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from kbsync_standin.faults import Fault
from tests.engine.machine import MirrorMachine
from tests.services.gptbots import GptbotsBench
from tests.services.row import ServiceRow
from tests.services.rows import ROWS


class ServiceMachine(MirrorMachine):
    """A mirror at a service."""

    row: ClassVar[ServiceRow]

    @initialize(
        behaviour=st.runner().flatmap(lambda machine: st.sampled_from(machine.row.behaviours)),
        indexing=st.sampled_from([0.0, 3.0]),
        names=st.runner().flatmap(lambda machine: st.sampled_from(machine.row.names)),
    )
    def begin(self, behaviour: dict[str, Any], indexing: float, names: str) -> None:
        self.note("begin", behaviour, indexing, names)
        world = self.row.world(Path(self.scratch.name), vectorize=(indexing, indexing), give_up=60.0)
        world.settings = replace(world.settings, names=names)
        world.turn(**behaviour)
        self.start(self.row.bench(world))

    @rule(oddity=st.runner().flatmap(lambda machine: st.sampled_from(machine.row.oddities)))
    def odd_response(self, oddity: Fault) -> None:
        self.note("odd_response", oddity)
        type(self).faults += 1
        self.bench.world.server.faults.add(oddity)

    def record_move(self, old: str, new: str) -> None:
        super().record_move(old, new)
        if self.bench.has_gaps_in_renames:
            self.oracle.expect_recreation([new])

    def change_prefix(self, prefix: str) -> None:
        """Change the prefix. If texts are stored once, documents with an old prefix block equal texts
        under the new one.
        """
        if not self.bench.has_gaps_in_renames:
            super().change_prefix(prefix)

    def begin_pass(self) -> None:
        """Begin a pass. If texts are stored once, first change files that the service can't store as they
        are.

        These are two files with one text, and files that exchanged theirs.
        """
        if not self.bench.has_gaps_in_renames:
            super().begin_pass()
            return
        texts: set[str] = set()
        files = self.oracle.files
        documents_by_digest = {
            document.digest: document for document in self.bench.ours() if not document.failed
        }
        for path, text in list(files.items()):
            document = documents_by_digest.get(sha256(text.encode()).hexdigest())
            is_elsewhere = document is not None and document.path != path
            if text in texts or (is_elsewhere and document.path in files):
                self.write(path, self.text())
            texts.add(files[path])
        super().begin_pass()

    def step_clock(self, seconds: float) -> None:
        """Step the clock. After a forward step, a lost update is repeated while the first is still in
        progress.
        """
        super().step_clock(seconds)
        if seconds > 0 and self.row.bench is GptbotsBench:
            self.bench.world.tolerated = "with the same bytes"


def machine(name: str) -> type[ServiceMachine]:
    """Return the machine of a mirror at this service."""
    return type(f"{name.title()}Machine", (ServiceMachine,), {"row": ROWS[name]})
