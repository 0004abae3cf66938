"""Tests that the files in docker/ are valid, consistent, and as docs/docker.md describes them.

This needs no engine: `tools/image_steps.py` runs the Dockerfile without one.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from kbsync.cli.main import kbsync
from kbsync.config.model import Config
from kbsync.config.reader import load
from tests.docs.pages import ROOT
from tests.programs import find_program, needs, run_program, write_program
from tests.share import long
from tools.image_steps import Instruction, instructions

DOCKER = ROOT / "docker"
STEPS = instructions((DOCKER / "Dockerfile").read_text())
LAST = STEPS[max(number for number, step in enumerate(STEPS) if step.name == "FROM") :]
USER = 10001
ENVIRONMENT = {"HOME": "/nonexistent"}
KNOWN = [
    *("FROM", "ARG", "RUN", "COPY", "WORKDIR", "ENV", "USER"),
    *("LABEL", "VOLUME", "HEALTHCHECK", "ENTRYPOINT"),
]


def documents(name: str) -> list[dict[str, Any]]:
    """Return the documents of a YAML file in docker/."""
    return list(yaml.safe_load_all((DOCKER / name).read_text()))


def of_kind(name: str, kind: str) -> dict[str, Any]:
    return next(document for document in documents(name) if document["kind"] == kind)


def step_named(name: str) -> Instruction:
    return next(step for step in LAST if step.name == name)


def pods() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the pods of the manifests, each with its kbsync container."""
    deployment = of_kind("kubernetes.yaml", "Deployment")["spec"]["template"]["spec"]
    job = of_kind("cronjob.yaml", "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    containers = (deployment["initContainers"][0], job["containers"][0])
    return list(zip((deployment, job), containers, strict=True))


def passes(program: str, *words: str | Path) -> None:
    completed = run_program(find_program(program) or program, *words)
    assert completed.returncode == 0, completed.stdout + completed.stderr


@long
@needs("hadolint")
def test_dockerfile_is_valid() -> None:
    passes("hadolint", DOCKER / "Dockerfile")


SHIPPED = [file for folder in (DOCKER, ROOT / "examples") for file in sorted(folder.rglob("*.yaml"))]
COMPOSE_FILES = [file for file in SHIPPED if re.search("^services:", file.read_text(), re.MULTILINE)]
MANIFESTS = [file for file in SHIPPED if re.search("^apiVersion:", file.read_text(), re.MULTILINE)]


@long
@needs("check-jsonschema")
@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_compose_file_is_valid(file: Path) -> None:
    passes("check-jsonschema", "--builtin-schema", "vendor.compose-spec", file)


@long
@needs("kubernetes-validate")
def test_kubernetes_manifests_are_valid() -> None:
    passes("kubernetes-validate", "--strict", "-k", "1.31", *MANIFESTS)


def test_image_steps_run_without_an_engine() -> None:
    assert {step.name for step in STEPS} == set(KNOWN)
    assert [step.words()[0] for step in STEPS if step.name == "FROM"] == ["debian:trixie-slim"] * 2


def test_continued_lines_and_comments_are_parsed_like_an_engine() -> None:
    text = '# a\nRUN one \\\n # not this\n && two\nCMD ["a b", "c"]\n'
    assert instructions(text) == [Instruction("RUN", "one && two"), Instruction("CMD", '["a b", "c"]')]
    assert instructions(text)[1].words() == ["a b", "c"]


def test_copied_files_are_in_the_build_context() -> None:
    allowed = {
        line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"
    }
    copied = {
        part
        for step in STEPS
        if step.name == "COPY" and "--from" not in step.rest
        for part in step.words()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_image_does_not_run_as_root_and_can_write_only_its_state() -> None:
    assert step_named("USER").rest == f"{USER}:{USER}"
    makes_user = next(step.rest for step in LAST if step.name == "RUN")
    assert f"--uid {USER}" in makes_user
    assert step_named("VOLUME").rest == "/var/lib/kbsync"
    assert "--owner kbsync --group kbsync --mode 700 /var/lib/kbsync" in makes_user


def test_licence_notice_and_bill_of_materials_are_in_the_image() -> None:
    built = " ".join(step.rest for step in STEPS if step.name == "RUN")
    assert "cp LICENSE NOTICE /opt/kbsync/doc" in built
    assert "--output-file /opt/kbsync/doc/sbom.cdx.json" in built
    assert "--from=build /opt/kbsync /opt/kbsync" in step_named("COPY").rest


def test_health_check_command_exists() -> None:
    shell, option, words = step_named("HEALTHCHECK").words()
    assert (shell, option) == ("sh", "-c")
    inner = shlex.split(words.partition(";")[0])
    assert inner[:2] == ["kbsync", "status"]
    command = kbsync.get_command(click.Context(kbsync), "status")
    assert command is not None
    command.make_context("status", inner[2:])


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4])
def test_health_check_exit_codes_suit_container_engines(tmp_path: Path, code: int) -> None:
    write_program(tmp_path / "kbsync", f"exit {code}")
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    completed = run_program(*step_named("HEALTHCHECK").words(), env=path)
    assert completed.returncode == (0 if code in (0, 1, 3) else 1), "no restart mends a document or decides"


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("[de]*/**/compose.yaml")), ids=lambda file: file.parent.name
)
def test_compose_container_restarts_after_a_reboot(file: Path) -> None:
    """Docker's `on-failure` starts nothing at boot if the daemon was stopped cleanly."""
    compose = yaml.safe_load(file.read_text())
    assert compose["services"]["kbsync"]["restart"] == "unless-stopped"


@long
def test_probe_uses_the_configured_listener(tmp_path: Path) -> None:
    http = loaded("kubernetes.yaml", tmp_path).http
    [(_, container)] = [pod for pod in pods() if "livenessProbe" in pod[1]]
    assert http is not None
    assert http.host == "0.0.0.0"
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": http.port}
    assert [port["containerPort"] for port in container["ports"]] == [http.port]


def test_containers_share_the_folder_and_kbsync_mounts_it_read_only() -> None:
    services = documents("compose.yaml")[0]["services"]
    assert "documents:/data" in services["app"]["volumes"]
    assert {"documents:/data:ro", "state:/var/lib/kbsync"} <= set(services["kbsync"]["volumes"])
    for pod, container in pods():
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert mounts["documents"] == {"name": "documents", "mountPath": "/data", "readOnly": True}
        assert mounts["state"]["mountPath"] == "/var/lib/kbsync"
        assert {volume["name"] for volume in pod["volumes"]} >= set(mounts)


def test_kbsync_gets_no_more_privileges_than_needed() -> None:
    service = documents("compose.yaml")[0]["services"]["kbsync"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    for pod, container in pods():
        assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == USER
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_state_is_never_used_by_two_pods() -> None:
    deployment = of_kind("kubernetes.yaml", "Deployment")["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}
    assert of_kind("cronjob.yaml", "CronJob")["spec"]["concurrencyPolicy"] == "Forbid"
    assert of_kind("kubernetes.yaml", "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteOncePod"]


def test_job_retries_only_temporary_problems() -> None:
    job = of_kind("cronjob.yaml", "CronJob")["spec"]["jobTemplate"]["spec"]
    [rule] = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["values"] == [1, 2, 3]
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def loaded(name: str, tmp_path: Path) -> Config:
    """Return the config of a file in docker/, with existing secrets."""
    is_manifest = "kind" in documents(name)[0]
    text = of_kind(name, "ConfigMap")["data"]["config.yaml"] if is_manifest else (DOCKER / name).read_text()
    for secret in ("key", "token"):
        (tmp_path / secret).write_text(f"{secret}.secret-of-a-good-length-for-tests")
    file = tmp_path / "config.yaml"
    file.write_text(text.replace("/run/secrets/kbsync", str(tmp_path)))
    return load(file, ENVIRONMENT)


@pytest.mark.parametrize("name", ["kubernetes.yaml", "cronjob.yaml", "kbsync.yaml"])
def test_configs_are_valid(name: str, tmp_path: Path) -> None:
    config = loaded(name, tmp_path)
    assert str(config.state_dir) == "/var/lib/kbsync/state"
    [mirror] = config.mirrors
    assert str(mirror.folder) == "/data"


def test_every_secret_in_the_config_is_in_the_kubernetes_secret() -> None:
    text = of_kind("kubernetes.yaml", "ConfigMap")["data"]["config.yaml"]
    named = set(re.findall(r"/run/secrets/kbsync/(\w+)", text))
    assert named == set(of_kind("kubernetes.yaml", "Secret")["stringData"])
