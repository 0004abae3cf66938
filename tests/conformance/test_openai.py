"""The target for vector stores keeps the contract against its stand-in, as OpenAI is and as OGX is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from kbsync.contract.target import Target
from kbsync.core.names import Naming
from kbsync.targets.openai.config import OpenaiTargetConfig
from kbsync.targets.openai.target import OpenaiTarget
from kbsync_standin.faults import Fault
from kbsync_standin.messages import StandInClock
from kbsync_standin.openai import HOME_ID, application
from tests.conformance.served import ServedWorld
from tests.conformance.suite import TargetSuite
from tests.conformance.world import SuiteWorld, texts
from tests.share import enumerated
from tests.targets.blocks import around, block

KEY = "sk-secret-for-tests"


class OpenaiConformance(ServedWorld):
    """A stand-in and a client on the same clock."""

    no_matter: ClassVar[Mapping[str, Any]] = {}
    unknown_id = "file-00000000000000000000000000000000"
    repeats_puts = False

    def __init__(self, **behaviour: Any) -> None:
        super().__init__(application(KEY, 1, (1.0, 3.0), StandInClock()), HOME_ID, behaviour)

    def name_for(self, path: str, digest: str = "") -> str:
        return Naming(style="marked").name(path, digest)

    async def open(self) -> Target:
        place = {"base_url": f"{self.server.url}/v1", "api_key": KEY, "vector_store_id": self.base}
        config = block(OpenaiTargetConfig, **place, max_bytes=3_000_000)
        return OpenaiTarget(config, around(), wall=self.app.clock.now, steady=self.app.clock.now)

    def spoiled(self, path: str) -> bytes:
        self.server.faults.add(Fault("fails", op="attach", match=f"{path.rpartition('.')[0]}*"))
        return b"About spoiled things"

    def cure(self) -> None:
        self.server.faults.clear()


class OpenaiSuite(TargetSuite):
    behaviour: ClassVar[Mapping[str, Any]] = {}

    def make_world(self, place: Path) -> OpenaiConformance:
        return OpenaiConformance(**self.behaviour)


class TestOpenai(OpenaiSuite):
    pass


@enumerated()
class TestOpenaiLags(OpenaiSuite):
    behaviour: ClassVar[Mapping[str, Any]] = {"list_lag": 2.0, "extra_fields": True}


class SharedTextsSuite(TargetSuite):
    """What holds at OGX, where files of equal text have one set of passages."""

    async def test_equal_bytes_at_two_paths_are_two_documents(self, world: SuiteWorld) -> None:
        """Their text is found under one of the paths, and always under the one that is left."""
        [text] = texts(["kestrel"])
        first, second = await world.make_ready(
            world.document("one/a.md", text), world.document("two/b.md", text)
        )
        assert set(await world.listed()) == {first, second}
        assert len(await world.found("kestrel")) == 1
        await world.target.delete([second])
        assert await world.found("kestrel") == {first}
        [third] = await world.make_ready(world.document("two/b.md", text))
        await world.target.delete([first])
        assert await world.found("kestrel") == {third}
        assert list(await world.listed()) == [third]


@enumerated()
class TestOgx(SharedTextsSuite):
    def make_world(self, place: Path) -> OpenaiConformance:
        return OpenaiConformance(dialect="ogx")
