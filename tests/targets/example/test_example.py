"""The example of the docs is a target like any other: it keeps the contract, and a config opens it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbsync.config import reader
from kbsync.config.problems import ConfigError
from kbsync.contract.target import Surroundings, Target
from kbsync.core.names import Naming
from kbsync.errors import Halted, Rejected
from kbsync.targets import registry
from tests.conformance.suite import TargetSuite
from tests.conformance.world import SuiteWorld
from tests.targets.blocks import around, block
from tests.targets.example.config import ExampleTargetConfig
from tests.targets.example.service import SPOILED, ExampleService
from tests.targets.example.target import ExampleTarget

KEY = "key-for-tests"


# -- world
class ExampleWorld(SuiteWorld):
    """The service in memory, whose clock moves only when it is told to."""

    repeats_puts = False
    tells_time = False
    unknown_id = "d999999"

    def __init__(self) -> None:
        super().__init__()
        self.service = ExampleService(KEY)

    async def open(self) -> Target:
        address, base = "https://example.invalid", self.service.base
        config = block(ExampleTargetConfig, type="example", base_url=address, api_key=KEY, base=base)
        return ExampleTarget(config, around(), steady=self.now, transport=self.service.transport)

    async def pass_time(self, seconds: float) -> None:
        self.service.now += seconds

    def now(self) -> float:
        return self.service.now

    def name_for(self, path: str, digest: str = "") -> str:
        return Naming(style="marked").name(path, digest)

    def spoiled(self, path: str) -> bytes:
        return SPOILED

    async def recreate(self) -> None:
        self.service.recreate("another")
        await self.reopen()


class TestExample(TargetSuite):
    def make_world(self, place: Path) -> SuiteWorld:
        return ExampleWorld()


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.ROWS, "example", "tests.targets.example.config:ExampleTargetConfig")


CONFIG = """\
mirrors:
  - name: handbook
    folder: .
    target: {{type: example, base_url: "{url}", api_key: key-for-tests, base: {base}}}
"""


def test_the_registry_opens_what_a_config_names(registered: None, tmp_path: Path) -> None:
    path = tmp_path / "kb.yaml"
    path.write_text(CONFIG.format(url="https://example.invalid", base="handbook"))
    [mirror] = reader.load(path, {}).mirrors
    assert isinstance(mirror.target, ExampleTargetConfig)
    assert mirror.target.base_key("handbook") == ("example", "https://example.invalid", "handbook")
    opened = mirror.target.open(Surroundings("handbook", tmp_path, tmp_path))
    assert isinstance(opened, ExampleTarget)
    assert opened.limits.poll_longest == mirror.target.vectorization.poll_longest


@pytest.mark.parametrize(
    ("url", "base", "words"),
    [
        ("https://example.invalid", "Hand book", "small letters, digits and -"),
        ("http://example.invalid", "handbook", "is not https"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(
    registered: None, tmp_path: Path, url: str, base: str, words: str
) -> None:
    path = tmp_path / "kb.yaml"
    path.write_text(CONFIG.format(url=url, base=base))
    with pytest.raises(ConfigError, match=words):
        reader.load(path, {})


# -- errors
@pytest.mark.parametrize(
    ("word", "kind", "halt"),
    [
        ("no_credit", Halted, "quota"),
        ("no_such_base", Halted, "knowledge-base-missing"),
        ("too_large", Rejected, ""),
    ],
)
async def test_each_word_of_the_service_says_who_has_to_act(word: str, kind: type, halt: str) -> None:
    world = ExampleWorld()
    world.service.broken = word
    target = await world.open()
    with pytest.raises(kind) as caught:
        await target.base()
    assert getattr(caught.value, "halt", "") == halt
