"""Tests the docs' example like any target: it passes the suite, and a config opens it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbsync.config import reader
from kbsync.contract.target import DocState, Target, TargetContext
from kbsync.core.names import Naming
from kbsync.errors import Halted, Unavailable
from kbsync.targets import registry
from tests.conformance import abilities
from tests.conformance.suite import TargetSuite
from tests.conformance.world import SuiteWorld
from tests.share import long
from tests.targets.blocks import block, target_context
from tests.targets.example.config import ExampleTargetConfig
from tests.targets.example.service import SPOILED, ExampleService
from tests.targets.example.target import ExampleTarget

KEY = "key-for-tests"


# -- world
class ExampleWorld(SuiteWorld):
    """The service in memory, whose clock only moves when the test moves it."""

    repeats_puts = False
    has_clock = False
    unknown_id = "d999999"

    def __init__(self) -> None:
        super().__init__()
        self.service = ExampleService(KEY)

    async def open(self) -> Target:
        address, base = "https://example.invalid", self.service.base
        config = block(ExampleTargetConfig, type="example", base_url=address, api_key=KEY, base=base)
        return ExampleTarget(config, target_context(), steady=self.now, transport=self.service.transport)

    async def pass_time(self, seconds: float) -> None:
        self.service.now += seconds

    def now(self) -> float:
        return self.service.now

    def name_for(self, path: str, digest: str = "") -> str:
        return Naming(style="marked").name(path, digest)

    def failing_bytes(self, path: str) -> bytes:
        return SPOILED

    def lose_base(self) -> None:
        self.service.base, self.service.is_vague = "another", True

    def restore_base(self) -> None:
        self.service.base = "handbook"

    async def recreate(self) -> None:
        self.service.recreate("another")
        await self.reopen()


class TestExample(TargetSuite):
    def make_world(self, folder: Path) -> SuiteWorld:
        return ExampleWorld()


@long
async def test_document_that_cannot_be_polled_does_not_affect_others() -> None:
    world = ExampleWorld()
    target = world.target = await world.open()
    [remote_id] = await world.make_ready(world.document("a.md", "kestrel"))
    world.service.broken = "d9"
    states = await target.status([remote_id, "d9"])
    assert (states[remote_id].state, states["d9"].state) == (DocState.READY, DocState.UNKNOWN)
    assert "503" in states["d9"].reason
    with pytest.raises(Unavailable):
        await target.status(["d9"])
    await target.aclose()


async def test_nothing_more_is_sent_once_a_person_must_act() -> None:
    world = ExampleWorld()
    target = await world.open()
    world.service.recreate("another")
    outcomes = await target.delete([f"d{number}" for number in range(50)])
    assert len(outcomes) == 50 and all(isinstance(outcome, Halted) for outcome in outcomes.values())
    assert target.meter is not None and target.meter.total <= target.limits.concurrency
    await target.aclose()


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.ROWS, "example", "tests.targets.example.config:ExampleTargetConfig")


CONFIG = """\
mirrors:
  - name: handbook
    folder: .
    target: {{type: example, base_url: "{url}", api_key: key-for-tests, base: {base}}}
"""


def test_registry_opens_the_configured_target(registered: None, tmp_path: Path) -> None:
    path = tmp_path / "kb.yaml"
    path.write_text(CONFIG.format(url="https://example.invalid", base="handbook"))
    [mirror] = reader.load(path, {}).mirrors
    assert isinstance(mirror.target, ExampleTargetConfig)
    assert mirror.target.base_key("handbook") == ("example", "https://example.invalid", "handbook")
    opened = mirror.target.open(TargetContext("handbook", tmp_path, tmp_path))
    assert isinstance(opened, ExampleTarget)
    assert opened.limits.poll_longest == mirror.target.vectorization.poll_longest


def test_docs_tables_can_include_a_column_for_it(registered: None) -> None:
    with abilities.targets() as instances:
        assert isinstance(instances["example"], ExampleTarget)
