"""Variants of the suite for services that keep some promises in another form."""

from __future__ import annotations

from kbsync.contract.target import DocState
from kbsync.errors import Unavailable
from tests.conformance.suite import TargetSuite
from tests.conformance.world import SuiteWorld, texts


class LightragSuite(TargetSuite):
    """LightRAG stores each text only once, and deletes nothing while it indexes."""

    async def test_equal_bytes_at_two_paths_are_two_documents(self, world: SuiteWorld) -> None:
        """Here the second document fails (`unkept`), and its reason names the first."""
        [text] = texts(["kestrel"])
        [first] = await world.make_ready(world.document("one/a.md", text))
        [second] = await world.put(world.document("two/b.md", text))
        await world.until(DocState.FAILED, second.remote_id)
        status = (await world.target.status([second.remote_id]))[second.remote_id]
        assert first in status.reason
        assert await world.find("kestrel") == {first}

    async def test_document_can_be_deleted_before_it_is_ready(self, world: SuiteWorld) -> None:
        """Here the deletion waits until the server has finished with the document."""
        [accepted] = await world.put(world.document("a.md", *texts(["kestrel"])))
        for _ in range(50):
            outcome = (await world.target.delete([accepted.remote_id]))[accepted.remote_id]
            if outcome is None:
                break
            assert isinstance(outcome, Unavailable)
            assert outcome.code == "busy"
            await world.pass_time(1.0)
        assert outcome is None
        assert await world.rows() == []
        assert await world.find("kestrel") == set()


class SharedTextsSuite(TargetSuite):
    """The promises that hold on OGX, where files of equal text share their passages."""

    async def test_equal_bytes_at_two_paths_are_two_documents(self, world: SuiteWorld) -> None:
        """Searches find the text at one of the paths; after that one is deleted, at the other."""
        [text] = texts(["kestrel"])
        first, second = await world.make_ready(
            world.document("one/a.md", text), world.document("two/b.md", text)
        )
        assert set(await world.listed()) == {first, second}
        assert len(await world.find("kestrel")) == 1
        await world.target.delete([second])
        assert await world.find("kestrel") == {first}
        [third] = await world.make_ready(world.document("two/b.md", text))
        await world.target.delete([first])
        assert await world.find("kestrel") == {third}
        assert list(await world.listed()) == [third]
