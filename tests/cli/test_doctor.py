"""Tests `kbsync doctor`: its results and fixes, and that no check hangs or reveals a key."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kbsync import file_systems
from kbsync.cli import folder_contents
from kbsync.cli.commands.doctor import command, service
from kbsync.cli.commands.doctor.command import Check, CheckResult, Grade, run_checks
from kbsync.errors import OUT_OF_MEMORY
from kbsync.targets.http import connection as wire
from kbsync.targets.http.connection import Endpoint
from kbsync_standin.faults import Fault
from kbsync_standin.server import Server
from tests.cli.conftest import SECRET
from tests.cli.cures import proves
from tests.cli.sandbox import RunResult, Sandbox, words_of
from tests.cli.zhipu import KEY, ZhipuSandbox
from tests.index.test_embed import graph
from tests.share import long
from tests.targets.http.authorities import Authority, authority
from tests.targets.http.servers import serving


def results(result: RunResult) -> dict[str, dict[str, Any]]:
    """Return the checks by name, one of each."""
    return {check["name"]: check for check in result.json["checks"]}


def names_with(completed: RunResult, result: str) -> set[str]:
    return {name for name, check in results(completed).items() if check["result"] == result}


def test_fresh_folder_passes_all_checks_and_nothing_is_written(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    before = sandbox.files()
    result = sandbox.run("doctor", "--folder", "docs", "--json")
    assert result.code == 0, result.out
    assert names_with(result, "wrong") == set()
    assert {"config", "state", "disk", "listener", "inotify", "docs: folder", "versions"} <= set(
        results(result)
    )
    assert sandbox.files() == before
    assert "1 file in 1 folder" in results(result)["docs: folder"]["detail"]


@proves("mount the folder, or fix its path in the config")
def test_people_get_one_line_per_check_and_quiet_prints_problems_only(sandbox: Sandbox) -> None:
    result = sandbox.run("doctor", "--folder", "docs")
    assert all(line.startswith(("ok  ", "warning  ")) for line in result.out.splitlines())
    sandbox.docs.rmdir()
    result = sandbox.run("doctor", "--folder", "docs", "-q")
    [line] = [line for line in result.out.splitlines() if line.startswith("wrong")]
    assert line.endswith("docs does not exist; fix: mount the folder, or fix its path in the config")
    assert result.code == 3
    assert "\nok" not in result.out


@pytest.mark.parametrize(
    ("text", "message"), [("mirrors: [", ":1:"), ("mirrors: [{name: a, foldre: x}]", "foldre")]
)
def test_bad_config_does_not_prevent_other_checks(sandbox: Sandbox, text: str, message: str) -> None:
    sandbox.configure().write_text(text)
    result = sandbox.run("doctor", "--json")
    assert result.code == 2
    assert any(message in check["detail"] for check in result.json["checks"] if check["name"] == "config")
    assert {"versions", "libraries"} <= names_with(result, "ok")


@long
def test_embedding_model_that_stops_every_pass_is_reported_in_its_words(sandbox: Sandbox) -> None:
    model = sandbox.root / "model"
    sandbox.write("a.md", "one two three")
    sandbox.configure(f"target: {json.dumps({'embedding': {'type': 'onnx', 'path': str(model)}})}")
    sandbox.add_mirror("pets", {"b.md": "beta"})

    def check() -> tuple[int, dict[str, Any]]:
        completed = sandbox.run("doctor", "--json")
        assert "pets: embedding model" not in results(completed)
        return completed.code, results(completed)["handbook: embedding model"]

    sentence = (
        f"embedding.path: {model} has no model.onnx (or onnx/model.onnx); export the model to ONNX there"
    )
    code, result = check()
    once = sandbox.run("--once")
    assert (code, result["result"], result["detail"]) == (once.code, "wrong", sentence)
    assert (code, sentence in once.words) == (2, True)
    graph(model, pooled=False)
    code, result = check()
    assert (code, result["result"]) == (0, "ok")
    assert result["detail"].endswith(f" in {model}: 3 dimensions")
    (model / "model.onnx").write_bytes(b"no graph")
    code, result = check()
    assert (code, "cannot be loaded as an ONNX graph" in result["detail"]) == (2, True)


def test_service_that_accepts_the_key_passes(zhipu: ZhipuSandbox) -> None:
    result = zhipu.run("doctor", "--json")
    assert result.code == 0, result.out
    expected = ("DNS", "connection", "clock", "key", "knowledge base", "quota")
    assert {f"handbook: {name}" for name in expected} <= names_with(result, "ok")
    assert KEY.partition(".")[2] not in result.out + result.err
    assert zhipu.service.effects("upload") == []
    assert zhipu.service.violations() == []


@proves("delete documents on {}, or get more space")
@pytest.mark.parametrize(
    ("switches", "name", "fix"),
    [
        ({"key_revoked": True}, "handbook: key", "kbsync --once --mirror handbook"),
        ({"capacity_bytes": 1}, "handbook: quota", "delete documents on {url}/api, or get more space"),
        ({"base": "deleted"}, "handbook: knowledge base", "kbsync --once --mirror handbook"),
    ],
)
def test_service_problem_is_shown_in_the_services_words(
    zhipu: ZhipuSandbox, switches: dict[str, Any], name: str, fix: str
) -> None:
    zhipu.service.plant("theirs.md", "somebody else's")
    zhipu.service.turn(**switches)
    result = zhipu.run("doctor", "--json")
    assert (result.code, names_with(result, "wrong")) == (3, {name}), result.out
    assert results(result)[name]["cure"].startswith(fix.format(url=zhipu.service.url))
    label = "then run" if "--once" in fix else "fix"  # a pass alone doesn't solve the problem
    assert f"; {label}: {fix.format(url=zhipu.service.url)}" in zhipu.run("doctor").out


@long
@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("api_key: '${TEST_KEY}'", "; api_key comes from the variable TEST_KEY"),
        ("api_key_file: {file}", "; api_key_file is {file}"),
        ("api_key: {key}", "; api_key is written in {config}"),
    ],
)
def test_refused_key_is_reported_with_its_setting_and_a_command_to_paste(
    zhipu: ZhipuSandbox, form: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = "other.secret-of-nobody"
    monkeypatch.setenv("TEST_KEY", wrong)
    file = zhipu.root / "key"
    file.write_text(wrong)
    zhipu.aim(key=form.replace("{file}", str(file)).replace("{key}", wrong))
    moved = zhipu.config.rename(zhipu.root / "my config.yaml")
    assert zhipu.run("--once", "--config", moved).code == 3
    checks = results(zhipu.run("doctor", "--json", "--config", moved))["handbook: key"]
    assert checks["result"] == "wrong"
    assert checks["detail"].endswith(message.format(file=file, config=moved))
    assert wrong not in checks["detail"]
    assert words_of(checks["cure"]) == ["--once", "--mirror", "handbook", "--config", str(moved)]


@long
def test_embedding_service_and_ranking_model_are_probed_once(sandbox: Sandbox, models: Server) -> None:
    def check(key: str) -> RunResult:
        service = {"api_key": key, "model": "words"}
        embedding = {"type": "openai", "base_url": f"{models.url}/openai/v1", **service}
        rerank = {"type": "jina", "base_url": f"{models.url}/jina/v1", **service}
        sandbox.configure(f"target: {json.dumps({'embedding': embedding, 'rerank': rerank})}")
        return sandbox.run("doctor", "--json")

    probes = ("handbook: embedding service", "handbook: ranking model")
    result = check(f"id.{SECRET}")
    assert [results(result)[name]["result"] for name in probes] == ["ok", "ok"]
    detail = results(result)[probes[0]]["detail"]
    assert re.fullmatch(r"openai words returns vectors with \d+ dimensions", detail)
    assert models.requests.total == 2
    wrong = "sk-of-nobody-at-all"
    result = check(wrong)
    assert (result.code, [results(result)[name]["result"] for name in probes]) == (3, ["wrong", "warning"])
    assert "rejected the key" in results(result)[probes[0]]["detail"]
    assert (
        results(result)[probes[0]]["cure"] == "set a valid embedding.api_key (or api_key_file) in the config"
    )
    assert results(result)[probes[1]]["cure"] == "set a valid rerank.api_key (or api_key_file) in the config"
    assert wrong not in result.out + result.err
    models.faults.add(Fault("status", args={"status": 503}, times=0))
    result = check(f"id.{SECRET}")
    assert (result.code, [results(result)[name]["result"] for name in probes]) == (4, ["wrong", "warning"])


def test_excluded_folders_may_be_unreadable(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.write("a.md", "alpha")
    shut = {
        str(sandbox.write(path, "x"))
        for path in ("backup.tar.gz", "private/a.md", "drafts/b.md", "ignored/c.md")
    }
    sandbox.prepare({".kbsyncignore": "ignored/\n"}, 'exclude: ["private/", "drafts/b.md"]')
    access = os.access
    monkeypatch.setattr(
        folder_contents.os, "access", lambda path, mode: path not in shut and access(path, mode)
    )
    result = sandbox.run("doctor", "--json")
    assert results(result)["handbook: folder"]["result"] == "ok", result.out
    assert "2 folders" in results(result)["handbook: folder"]["detail"]
    assert "2 of " in results(result)["inotify"]["detail"]


@pytest.mark.parametrize(
    ("observer", "mount", "why"),
    [
        ("auto", "fuse.unknown", "net is fuse.unknown; such a file system does not report every change"),
        ("native", "fuse.unknown", ""),
        ("polling", "", "`observer: polling` is set"),
    ],
)
def test_folders_to_poll_are_those_that_the_daemon_polls(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, observer: str, mount: str, why: str
) -> None:
    sandbox.prepare({"a.md": "alpha"}, f"observer: {observer}")
    if mount:
        (mountinfo := sandbox.root / "mountinfo").write_text(
            f"{file_systems.MOUNTINFO.read_text()}9999 1 0:99 / {sandbox.docs}/net rw - {mount} x rw\n"
        )
        monkeypatch.setattr(file_systems, "MOUNTINFO", mountinfo)
    lines = [
        check["detail"]
        for check in sandbox.run("doctor", "--json").json["checks"]
        if check["name"] == "inotify" and check["detail"].startswith("kbsync polls")
    ]
    assert [line.endswith(why) for line in lines] == [True] * bool(why)


@proves("unset CREDENTIALS_DIRECTORY")
def test_systemd_credentials_are_reported_by_name_only(sandbox: Sandbox) -> None:
    handed = sandbox.add_folder("credentials", {"zhipu": KEY})
    result = sandbox.run("doctor", "--folder", "docs", "--json", env={"CREDENTIALS_DIRECTORY": str(handed)})
    assert results(result)["credentials"]["detail"] == f"{handed}: zhipu"
    assert KEY not in result.out
    alone = sandbox.run("doctor", "--folder", "docs", "--json")
    assert "credentials" not in results(alone)
    missing = {"CREDENTIALS_DIRECTORY": str(sandbox.root / "missing")}
    refused = results(sandbox.run("doctor", "--folder", "docs", "--json", env=missing))["credentials"]
    assert "can't be read (no such file or directory)" in refused["detail"]
    assert refused["cure"] == "unset CREDENTIALS_DIRECTORY"


@proves("check for a hung disk or network mount")
def test_hanging_or_failing_check_does_not_stop_the_others() -> None:
    never = threading.Event()

    def hangs() -> Iterator[CheckResult]:
        yield CheckResult("a", "so far")
        never.wait()

    def breaks() -> Iterator[CheckResult]:
        raise RuntimeError("ours")
        yield

    checks = [Check("a", hangs), Check("b", breaks), Check("c", lambda: [CheckResult("c", "well")])]
    result = run_checks(checks, limit=0.1)
    results = [(check.subject, check.grade.value, int(check.code)) for check in result]
    assert results == [("a", "ok", 0), ("a", "wrong", 4), ("b", "wrong", 70), ("c", "ok", 0)]
    assert result[1].fix == "check for a hung disk or network mount"
    never.set()


@proves("check whether the service or the network is overloaded")
def test_service_that_does_not_respond_is_not_blamed_on_a_disk(
    zhipu: ZhipuSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "run_checks", partial(run_checks, limit=1.0))
    zhipu.service.play("hang", times=0)
    result = zhipu.run("doctor", "--json")
    assert (result.code, names_with(result, "wrong")) == (4, {"handbook: service"}), result.out
    service = results(result)["handbook: service"]
    assert service["detail"] == "no response within 1 s"
    assert service["cure"] == "check whether the service or the network is overloaded"


def test_database_that_does_not_respond_is_not_blamed_on_a_disk(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "run_checks", partial(run_checks, limit=1.0))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"postgresql://kb@127.0.0.1:{silent.getsockname()[1]}/kb"
        sandbox.configure(f"target: {{type: postgres, dsn: {json.dumps(dsn)}}}")
        service = results(sandbox.run("doctor", "--json"))["handbook: service"]
    assert service["detail"] == "no response within 1 s"
    assert service["cure"] == "check whether the service or the network is overloaded"


def test_check_without_memory_to_report_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    report = command.wrong

    def report_later(*args: Any) -> CheckResult:
        if threading.current_thread() is not threading.main_thread():
            raise MemoryError
        return report(*args)

    def breaks() -> Iterator[CheckResult]:
        raise MemoryError
        yield

    monkeypatch.setattr(command, "wrong", report_later)
    monkeypatch.setattr(threading, "excepthook", lambda _args: None)
    [result] = run_checks([Check("a", breaks)])
    assert (result.grade, result.detail) == (Grade.WRONG, OUT_OF_MEMORY)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


async def reached(host: str, ours: Authority, ca_file: Path | None) -> tuple[CheckResult, str]:
    """Return the result for a server with this certificate, and its address under that name."""
    async with serving(nothing_more, ours.server) as server:
        url = server.url.replace("http:", "https:").replace("127.0.0.1", host)
        endpoint = Endpoint(url, ca_file=ca_file)
        checks = await asyncio.to_thread(list, service._check_connection(endpoint, wire.trusted(endpoint)))
    [result] = checks
    return result, url


async def nothing_more(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    pass


@long
@proves("ask the service's operator to renew the certificate")
async def test_certificate_about_to_expire_is_a_warning(ours: Authority) -> None:
    outcome, url = await reached("127.0.0.1", ours, ours.ca_file)
    assert (outcome.subject, outcome.grade) == ("TLS", Grade.WARNING)
    assert "TLSv1.3" in outcome.detail
    assert f"{url} is reachable over" in outcome.detail
    assert "expires in 2 days" in outcome.detail
    assert outcome.fix == "ask the service's operator to renew the certificate"


@long
@proves("ask the service's operator to renew the certificate, or correct this machine's clock")
async def test_expired_certificate_comes_with_a_fix(tmp_path: Path) -> None:
    expired = authority(tmp_path, days=-1)
    outcome, _ = await reached("127.0.0.1", expired, expired.ca_file)
    assert "certificate has expired" in outcome.detail
    assert (outcome.grade, int(outcome.code)) == (Grade.WRONG, 4)
    assert "renew" in outcome.fix and "clock" in outcome.fix


@long
async def test_silent_tls_handshake_is_reported_in_plain_words(
    ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    monkeypatch.setattr(service, "CONNECT_TIMEOUT", 0.2)
    async with serving(silent) as server:
        endpoint = Endpoint(server.url.replace("http:", "https:"))
        [outcome] = await asyncio.to_thread(list, service._check_connection(endpoint, wire.trusted(endpoint)))
    assert "cannot be reached (no response within 0.2 s)" in outcome.detail


@proves("set ca_file: in the config to the service's CA certificate, or fix base_url")
@pytest.mark.parametrize("is_named", [False, True])
async def test_untrusted_certificate_comes_with_a_fix(ours: Authority, is_named: bool) -> None:
    """Signed by an unknown authority, or issued for another name."""
    host, ca_file = ("localhost", ours.ca_file) if is_named else ("127.0.0.1", None)
    outcome, _ = await reached(host, ours, ca_file)
    assert (outcome.grade, int(outcome.code)) == (Grade.WRONG, 4)
    assert "is not trusted" in outcome.detail
    assert "ca_file:" in outcome.fix


@pytest.mark.parametrize(
    ("dsn", "is_secret"),
    [
        ("postgresql://kb:hunter2@db/kb", True),
        ('"host=db user=kb password=hunter2"', True),
        ("postgresql://kb@db/kb", False),
        ("host=db user=kb passfile=/home/ada/.pgpass", False),
        ("postgresql://kb:${PG_PASSWORD}@db/kb", False),
        ("host=db password=${PG_PASSWORD}", False),
    ],
)
def test_dsn_password_readable_by_others_is_reported(sandbox: Sandbox, dsn: str, is_secret: bool) -> None:
    config = sandbox.configure(f"target: {{type: postgres, dsn: {json.dumps(dsn.strip(chr(34)))}}}")
    config.chmod(0o644)
    result = sandbox.run("doctor", "--json", env={"PG_PASSWORD": "hunter2"})
    report = [check for check in result.json["checks"] if "may contain a secret" in check["detail"]]
    assert bool(report) is is_secret


@pytest.mark.parametrize(
    ("setting", "is_secret"),
    [
        ("callback_authorization: Bearer a-secret-for-the-gateway", True),
        ('callback_authorization: "${GATEWAY}"', False),
        ("chat_model: glm-4-flash", False),
    ],
)
def test_secret_readable_by_others_is_reported_for_every_kind_of_secret(
    sandbox: Sandbox, setting: str, is_secret: bool
) -> None:
    target = 'type: zhipu, knowledge_id: "1", api_key: "${KEY}", base_url: http://127.0.0.1:1/api'
    config = sandbox.configure(f"target: {{{target}, {setting}}}")
    config.chmod(0o644)
    result = sandbox.run("doctor", "--json", env={"KEY": KEY, "GATEWAY": "Bearer x"})
    report = [check for check in result.json["checks"] if "may contain a secret" in check["detail"]]
    assert bool(report) is is_secret, result.out


def test_config_is_read_as_kbsync_reads_it(sandbox: Sandbox) -> None:
    """Where YAML 1.1 has dates, numbers with colons and other types, kbsync has texts."""
    sandbox.write("a.md", "alpha")
    config = sandbox.configure('exclude: [2026-13-45, =, "1:60"]')
    (key := sandbox.root / "key").write_text("a-token-of-16-characters")
    key.chmod(0o644)
    config.write_text(f"{config.read_text()}http: {{listen: 127.0.0.1:9753, token_file: {key}}}\n")
    checks = [check for check in sandbox.run("doctor", "--json").json["checks"] if check["name"] == "config"]
    assert [check["result"] for check in checks] == ["ok", "warning"]
    assert str(key) in checks[1]["detail"]
