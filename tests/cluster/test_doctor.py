"""Tests `kbsync doctor` with a cluster, and TLS by Dask's own settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.index.cluster import worker
from kbsync.index.cluster.client import ClusterState, DaskCluster
from tests.cli.place import Place, eventually
from tests.cluster.programs import Programs
from tests.share import long
from tests.targets.http.authorities import authority


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def checked(place: Place, **environ: str) -> tuple[int, list[dict[str, str]]]:
    """Return the exit code, and the results about the cluster."""
    ran = place.go("doctor", "--json", env=environ) if environ else place.run("doctor", "--json")
    return ran.code, [check for check in ran.json["checks"] if check["name"] == "handbook: cluster"]


def test_answering_workers_are_counted_and_unsuitable_ones_named(
    place: Place, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.configure(f"prepare: {{dask: {programs.address}}}\n")
    code, [check] = checked(place)
    assert (code, check["result"]) == (0, "ok")
    assert check["detail"] == f"{programs.address} has 2 workers, 4 threads"
    monkeypatch.setattr(worker, "__version__", "9.1")
    code, both = checked(place)
    assert code == 3 and [each["result"] for each in both] == ["wrong", "wrong"]
    assert "has kbsync 0.1.0, this host has kbsync 9.1" in both[0]["detail"]
    assert both[0]["cure"].startswith("install kbsync ")
    monkeypatch.setattr(DaskCluster, "state", lambda _self: ClusterState(0, 0, []))
    code, [check] = checked(place)
    assert (code, check["detail"]) == (4, "0 workers, 0 threads")
    assert check["cure"] == f"dask worker {programs.address}"  # programs.py starts workers like this


@long
def test_tls_uses_dasks_own_settings(place: Place, tmp_path: Path) -> None:
    authority(tmp_path)
    kinds = ("CLIENT", "SCHEDULER", "WORKER")
    tls = {f"DASK_DISTRIBUTED__COMM__TLS__{kind}__CERT": str(tmp_path / "kb.pem") for kind in kinds}
    tls |= {f"DASK_DISTRIBUTED__COMM__TLS__{kind}__KEY": str(tmp_path / "kb.key") for kind in kinds}
    tls |= {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(tmp_path / "ca.pem")}
    running = Programs(1, "tls", **tls)
    try:
        assert running.address.startswith("tls://")
        place.configure(f"prepare: {{dask: '{running.address}'}}\n")
        eventually(lambda: checked(place, **tls)[0] == 0)
        place.write("a.md", "# Walrus\n\nOn the ice.\n")
        assert place.go("--once", env=tls).code == 0
        code, [check] = checked(place)
        assert code == 4 and check["detail"].startswith(f"no Dask scheduler answers at {running.address} (")
    finally:
        running.close()
