"""The audits of a daemon at work, on real time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kbsync.source.wake import wake
from tests.engine.test_watching import WatchingWorld, until


def audited_often(tmp_path: Path) -> WatchingWorld:
    daemon = WatchingWorld(tmp_path)
    daemon.write_many(10)
    daemon.settings = replace(daemon.settings, deep_rescan=0.5)
    return daemon


async def test_documents_deleted_behind_our_back_come_back_by_themselves(tmp_path: Path) -> None:
    daemon = audited_often(tmp_path)
    async with daemon.kept():
        daemon.base.lose(daemon.base.served("f3.md")[0].remote_id)
        await until(daemon.mirrors_disk)
    assert daemon.puts() == 11


async def test_a_base_emptied_behind_our_back_halts_until_a_person_has_it_repaired(tmp_path: Path) -> None:
    daemon = audited_often(tmp_path)
    async with daemon.kept() as store:
        lost = [daemon.base.served(f"f{i}.md")[0].remote_id for i in range(8)]
        for remote_id in lost:
            daemon.base.lose(remote_id)
            daemon.base.add(f"theirs-{remote_id}.txt", b"others")
        await until(lambda: daemon.run.halt)
        assert daemon.run.halt is not None
        assert daemon.run.halt.reason == "knowledge-base-emptied"
        await until(lambda: daemon.run.bound is None)  # it began anew, and halted again
        assert daemon.puts() == 10
        await store.write(lambda tx: tx.inbox.post("repair", "docs", {"missing": lost}, 0.0))
        wake(daemon.state)
        await until(lambda: daemon.puts() == 18)
        await until(lambda: daemon.run.halt is None)
