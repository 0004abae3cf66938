"""Tests that examples/postgres/ is valid, matches the image, and works with a real server."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kbsync.config.model import Config
from kbsync.config.reader import load
from kbsync.targets.postgres.config import PostgresTargetConfig, database_of
from tests.cli.sandbox import Sandbox
from tests.docs.pages import ROOT
from tests.packaging.test_image import ENVIRONMENT, USER, step_named
from tests.postgres.server import Server, programs
from tests.programs import run_program, write_program
from tests.share import long

EXAMPLE = ROOT / "examples" / "postgres"
COMPOSE, KUBERNETES = EXAMPLE / "compose.yaml", EXAMPLE / "kubernetes.yaml"
SECRETS = {"dsn": "postgresql://kbsync:secret@db/kb", "token": "a-token-of-a-good-length-for-tests"}


def composed() -> dict[str, Any]:
    loaded_config: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded_config


def of_kind(kind: str) -> dict[str, Any]:
    return next(
        resource for resource in yaml.safe_load_all(KUBERNETES.read_text()) if resource["kind"] == kind
    )


def pod() -> dict[str, Any]:
    results: dict[str, Any] = of_kind("StatefulSet")["spec"]["template"]["spec"]
    return results


CONFIGS = {
    "compose": (EXAMPLE / "kbsync.yaml").read_text(),
    "kubernetes": of_kind("ConfigMap")["data"]["config.yaml"],
}
MOUNTS = {
    "compose": {
        *(
            mount.split(":")[-2]
            for mount in composed()["services"]["kbsync"]["volumes"]
            if mount[-3:] == ":ro"
        ),
        *(
            mount.split(":")[1]
            for mount in composed()["services"]["kbsync"]["volumes"]
            if mount[-3:] != ":ro"
        ),
        *(f"/run/secrets/{name}" for name in composed()["services"]["kbsync"]["secrets"]),
    },
    "kubernetes": {
        *(mount["mountPath"] for mount in pod()["containers"][0]["volumeMounts"]),
        *(f"/run/secrets/kbsync/{name}" for name in of_kind("Secret")["stringData"]),
    },
}


def loaded(text: str, tmp_path: Path) -> Config:
    """Return the config, with existing secrets."""
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(value)
    file = tmp_path / "config.yaml"
    file.write_text(re.sub("/run/secrets(/kbsync)?", str(tmp_path), text))
    return load(file, ENVIRONMENT)


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_are_valid_and_name_mounted_paths(name: str, tmp_path: Path) -> None:
    config = loaded(CONFIGS[name], tmp_path)
    [mirror] = config.mirrors
    assert isinstance(mirror.target, PostgresTargetConfig)
    assert mirror.target.dsn.reveal() == SECRETS["dsn"]
    assert str(config.state_dir).startswith(f"{step_named('VOLUME').rest}/")
    assert {"/etc/kbsync", "/etc/kbsync/config.yaml"} & MOUNTS[name]
    named = {step_named("VOLUME").rest, str(mirror.folder), *re.findall(r"/run/secrets/\S+", CONFIGS[name])}
    assert named <= MOUNTS[name]


def test_host_keeps_its_name_across_restarts_and_has_its_own_prefix(tmp_path: Path) -> None:
    # ADR 27: the database recognizes a mirror with a lost state by it.
    names = {"compose": composed()["services"]["kbsync"]["hostname"]}
    names["kubernetes"] = of_kind("StatefulSet")["metadata"]["name"]
    for name, text in CONFIGS.items():
        [mirror] = loaded(text, tmp_path).mirrors
        assert mirror.prefix == f"{names[name]}/"


def test_state_is_never_used_by_two_containers(tmp_path: Path) -> None:
    spec = of_kind("StatefulSet")["spec"]
    assert spec["replicas"] == 1
    [claim] = spec["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert claim["metadata"]["name"] in {
        volumeMount["name"] for volumeMount in pod()["containers"][0]["volumeMounts"]
    }


def test_probes_use_the_listener_and_the_images_health_check(tmp_path: Path) -> None:
    http, [container] = loaded(CONFIGS["kubernetes"], tmp_path).http, pod()["containers"]
    assert http is not None
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": http.port}
    assert container["readinessProbe"]["exec"]["command"] == step_named("HEALTHCHECK").words()
    assert [port["containerPort"] for port in container["ports"]] == [http.port]
    assert [port["port"] for port in of_kind("Service")["spec"]["ports"]] == [http.port]


@long
def test_privileges_are_minimal() -> None:
    for service in composed()["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "ports" not in service
    [container] = pod()["containers"]
    assert pod()["securityContext"]["runAsUser"] == pod()["securityContext"]["fsGroup"] == USER
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_image_includes_postgresql_dependencies() -> None:
    arguments = composed()["services"]["kbsync"]["build"]["args"]
    dockerfile = (
        EXAMPLE / composed()["services"]["kbsync"]["build"]["context"] / "docker/Dockerfile"
    ).read_text()
    assert arguments == {"KBSYNC_EXTRAS": "postgres"}
    assert "ARG KBSYNC_EXTRAS=" in dockerfile
    # As the shell of a RUN sees it, with and without.
    words = re.findall(r'(?<=--no-cache-dir )("\$wheel\S+")', dockerfile)
    for extras, requirement in (("postgres,onnx", "a.whl[postgres,onnx]"), ("", "a.whl")):
        completed = run_program(
            "sh", "-c", f"echo {words[0]}", env={**os.environ, "wheel": "a.whl", "KBSYNC_EXTRAS": extras}
        )
        assert completed.stdout == f"{requirement}\n"


def test_compose_commands_create_its_secrets(tmp_path: Path) -> None:
    head = COMPOSE.read_text().partition("\nservices:")[0]
    commands = [line[4:] for line in head.splitlines() if line.startswith("#   ") and "docker" not in line]
    directory, tools = tmp_path / "sandbox", tmp_path / "tools"
    directory.mkdir()
    # Not every machine has it.
    write_program(
        tools / "openssl",
        '[ "$1 $2" = "rand -hex" ] && head -c "$3" /dev/urandom | od -An -v -tx1 | tr -d " \\n"',
    )
    environ = {"PATH": f"{tools}:/usr/bin:/bin"}
    completed = run_program("sh", "-ec", "\n".join(commands), cwd=directory, env=environ)
    assert completed.returncode == 0, completed.stderr
    secrets = {secret["file"].removeprefix("./") for secret in composed()["secrets"].values()}
    assert {file.name for file in directory.iterdir()} == secrets
    dsn, password = ((directory / name).read_text() for name in ("dsn.txt", "password.txt"))
    assert len(password) == 48
    assert f":{password}@" in dsn
    assert database_of(dsn)[0] in composed()["services"]
    assert "/examples/postgres/*.txt" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.fixture
def initialized(postgres: Server, tmp_path: Path) -> Iterator[Server]:
    """Yield a server on which init.sh has run."""
    (tmp_path / "password").write_text("it's a 'secret'")
    environ = {**os.environ, "PGHOST": str(postgres.folder), "PASSWORD_FILE": str(tmp_path / "password")}
    environ["PATH"] = f"{programs()}:{environ['PATH']}"
    completed = run_program(EXAMPLE / "init.sh", env=environ)
    assert completed.returncode == 0, completed.stderr
    yield postgres
    postgres.run("postgres", "DROP DATABASE kb WITH (FORCE)")
    postgres.run("postgres", "DROP ROLE kbsync")


@long
def test_example_fills_the_database_its_script_creates(
    initialized: Server, sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.write("a.md", "The kestrel.\n")
    sandbox.config.parent.mkdir(parents=True)
    (tmp_path / "dsn").write_text(initialized.dsn("kb", "kbsync"))
    text = CONFIGS["compose"].replace("/run/secrets", str(tmp_path)).replace("/data", str(sandbox.docs))
    sandbox.config.write_text(text.replace("/var/lib/kbsync/state", str(tmp_path / "state")))
    result = sandbox.run("--once", "--json")
    assert (result.code, result.json["uploaded"]) == (0, 1), result.err
    assert initialized.run("kb", "SELECT prefix FROM kbsync.owner") == [("files-one/",)]
    assert initialized.run("postgres", "SELECT rolsuper FROM pg_roles WHERE rolname = 'kbsync'") == [(False,)]
    assert json.loads(sandbox.run("search", "kestrel", "--json").out)["hits"][0]["path"] == "a.md"
