"""Tests `kbsync doctor` with a cluster, and TLS by Dask's own settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbsync.index.cluster import worker
from kbsync.index.cluster.client import ClusterState, DaskCluster
from tests.cli.sandbox import Sandbox, eventually
from tests.cluster.programs import Programs
from tests.share import long
from tests.targets.http.authorities import authority


def checked(sandbox: Sandbox, **environ: str) -> tuple[int, list[dict[str, str]]]:
    """Return the exit code, and the results about the cluster."""
    result = sandbox.go("doctor", "--json", env=environ) if environ else sandbox.run("doctor", "--json")
    return result.code, [check for check in result.json["checks"] if check["name"] == "handbook: cluster"]


def test_answering_workers_are_counted_and_unsuitable_ones_named(
    sandbox: Sandbox, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.configure(f"prepare: {{dask: {programs.address}}}\n")
    code, [check] = checked(sandbox)
    assert (code, check["result"]) == (0, "ok")
    assert check["detail"] == f"{programs.address} has 2 workers, 4 threads"
    monkeypatch.setattr(worker, "__version__", "9.1")
    code, both = checked(sandbox)
    assert code == 3 and [row["result"] for row in both] == ["wrong", "wrong"]
    assert "has kbsync 0.1.0, but this host has kbsync 9.1" in both[0]["detail"]
    assert both[0]["cure"].startswith("install kbsync ")
    monkeypatch.setattr(DaskCluster, "state", lambda _self: ClusterState(0, 0, []))
    code, [check] = checked(sandbox)
    assert (code, check["detail"]) == (4, "0 workers, 0 threads")
    assert check["cure"] == f"dask worker {programs.address}"  # programs.py starts workers like this


@long
def test_tls_uses_dasks_own_settings(sandbox: Sandbox, tmp_path: Path) -> None:
    authority(tmp_path)
    kinds = ("CLIENT", "SCHEDULER", "WORKER")
    tls = {f"DASK_DISTRIBUTED__COMM__TLS__{kind}__CERT": str(tmp_path / "kb.pem") for kind in kinds}
    tls |= {f"DASK_DISTRIBUTED__COMM__TLS__{kind}__KEY": str(tmp_path / "kb.key") for kind in kinds}
    tls |= {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(tmp_path / "ca.pem")}
    running = Programs(1, "tls", **tls)
    try:
        assert running.address.startswith("tls://")
        sandbox.configure(f"prepare: {{dask: '{running.address}'}}\n")
        eventually(lambda: checked(sandbox, **tls)[0] == 0)
        sandbox.write("a.md", "# Walrus\n\nOn the ice.\n")
        assert sandbox.go("--once", env=tls).code == 0
        code, [check] = checked(sandbox)
        assert code == 4 and check["detail"].startswith(
            f"the Dask scheduler at {running.address} isn't responding ("
        )
    finally:
        running.close()
