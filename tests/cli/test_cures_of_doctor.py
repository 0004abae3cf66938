"""Pastes every fix of `kbsync doctor` in the situation that prints it, and checks that the problem is
gone.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shlex
import socket
import stat
import sys
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import apsw
import pytest

from kbsync import install_command
from kbsync.cli.commands.doctor import machine as stands_on
from kbsync.errors import Halted, Unavailable, UsageError
from kbsync.file_systems import DISK_FAILED
from kbsync.index import embed
from kbsync.index.errors import storage_error
from kbsync.index.fence.parser import PageParser, Parser
from kbsync.source import observer
from kbsync.state import lock
from tests import warm
from tests.cli import without_root
from tests.cli.cures import proves
from tests.cli.pasting import after, machine, paste
from tests.cli.sandbox import Sandbox, eventually, fail_disk
from tests.cli.zhipu import ZhipuSandbox, zhipu_sandbox
from tests.ports import free_port
from tests.programs import needs
from tests.share import long
from tests.targets.bodies import BytesBody

OTHER = 10001
"""A user without a name."""

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can create other users' files")


RunCheck = Callable[[], list[dict[str, Any]]]


def check_of(sandbox: Sandbox, check: str, env: dict[str, str] | None = None) -> RunCheck:
    """Run one check of doctor, without root's privileges."""

    def run_check() -> list[dict[str, Any]]:
        environ = {**os.environ, "HOME": str(sandbox.home), **(env or {})}
        completed = warm.run(
            ["doctor", "--json"], module=without_root.__name__, cwd=sandbox.root, env=environ
        )
        return [result for result in json.loads(completed.stdout)["checks"] if result["name"] == check]

    return run_check


def fix_of(checks: list[dict[str, Any]]) -> str:
    [fix] = [result["cure"] for result in checks if result["cure"]]
    return str(fix)


def is_cured(sandbox: Sandbox, run_check: RunCheck, **options: Any) -> str:
    """Paste the fix, check that the problem is gone, and return the fix."""
    fix = fix_of(run_check())
    pasted = paste(sandbox, fix, **options)
    assert pasted.code == 0, (fix, pasted.err)
    assert {result["result"] for result in run_check()} == {"ok"}, fix
    return fix


# -- permissions ---------------------------------------------------------------------------------------------


def too_open_config(sandbox: Sandbox) -> None:
    sandbox.config.write_text(f"{sandbox.config.read_text()}notify: {{url: 'http://127.0.0.1:1/secret'}}\n")
    sandbox.config.chmod(0o604)


def of_another(path: Path, mode: int) -> None:
    """Create the folder if needed, and make it another user's."""
    if not path.exists():
        path.mkdir(parents=True)
    path.chmod(mode)
    os.chown(path, OTHER, OTHER)


RIGHTS: list[tuple[str, Callable[[Sandbox], object]]] = [
    ("config", too_open_config),
    ("state", lambda sandbox: sandbox.state.mkdir(parents=True, mode=0o755)),
    ("handbook: folder", lambda sandbox: sandbox.write("it's shut.md", "beta").chmod(0)),
]
RIGHTS_OF_OTHERS: list[tuple[str, Callable[[Sandbox], object]]] = [
    ("handbook: folder", lambda sandbox: of_another(sandbox.write("theirs.md", "beta"), 0o600)),
    ("state", lambda sandbox: of_another(sandbox.state, 0o700)),
    ("state", lambda sandbox: of_another(sandbox.state.parent, 0o755)),
]


@long
@proves(
    "chmod -R u+rX {}",
    "chmod go-rwx {}",
    "chmod o-rwx {}",
    "sudo chown -R {} {}",
    "sudo install -d -m 700 -o {} {}",
    "sudo setfacl --recursive --modify u:{}:rX {}",
)
@pytest.mark.parametrize(
    ("check", "arrange"),
    [*RIGHTS, *(pytest.param(*rights_of_other, marks=only_root) for rights_of_other in RIGHTS_OF_OTHERS)],
)
def test_permissions_are_granted_and_revoked(
    sandbox: Sandbox, check: str, arrange: Callable[[Sandbox], object]
) -> None:
    sandbox.prepare({"a.md": "alpha"})
    arrange(sandbox)
    is_cured(sandbox, check_of(sandbox, check))


@only_root
@long
@proves("sudo -u {} {}", "doctor")
@pytest.mark.parametrize("owner", ["kbsync", "root"])
def test_state_of_a_service_stays_with_its_user(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    sandbox.prepare({"a.md": "alpha"})
    of_another(sandbox.state, 0o700)
    running = lock.held(sandbox.state) if owner == "root" else contextlib.nullcontext()
    with monkeypatch.context() as patch, running:
        patch.setattr(lock, "user_name", lambda number: owner if number == OTHER else "ada")
        patch.setattr(os, "access", lambda path, *_: path != sandbox.state)
        check = result_of(sandbox, "state")
    assert check["cure"].startswith(f"sudo -u {owner} kbsync doctor")
    assert "ada cannot write" in check["detail"] and f"belongs to {owner}" in check["detail"]
    assert paste(sandbox, check["cure"]).code == 0


@only_root
@long
def test_state_in_use_stays_with_its_user_even_if_the_lock_cannot_be_read(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"})
    sandbox.state.mkdir(parents=True)
    with lock.held(sandbox.state):
        of_another(sandbox.state, 0o700)
        assert fix_of(check_of(sandbox, "state")()).startswith(f"sudo -u '#{OTHER}' ")


@long
def test_state_closed_by_its_owner_is_opened_while_kbsync_runs(ordinary: Sandbox) -> None:
    ordinary.prepare({"a.md": "alpha"})
    ordinary.state.mkdir(parents=True, mode=0o700)
    with lock.held(ordinary.state):
        ordinary.state.chmod(0o500)
        [check] = [each for each in ordinary.go("doctor", "--json").json["checks"] if each["name"] == "state"]
        assert check["cure"] == f"chmod u+rwX {ordinary.state}"
        assert paste(ordinary, check["cure"]).code == 0
    assert ordinary.state.stat().st_mode & 0o777 == 0o700


# -- the machine -----------------------------------------------------------------------------------------


def result_of(sandbox: Sandbox, check: str, *flags: str) -> dict[str, Any]:
    """Return the result of the only check with this name or ending, run in this process."""
    checks = sandbox.run("doctor", "--json", *flags).json["checks"]
    [matching] = [result for result in checks if result["name"].endswith(check)]
    return dict(matching)


def in_this_process(sandbox: Sandbox, check: str) -> RunCheck:
    def run_check() -> list[dict[str, Any]]:
        checks = sandbox.run("doctor", "--folder", str(sandbox.docs), "--json").json["checks"]
        return [result for result in checks if result["name"] == check]

    return run_check


def set_to(sandbox: Sandbox, name: str) -> int | None:
    """Return a limit of the machine now, and after the next boot."""
    limits_file = machine(sandbox) / "sysctl"
    now = (
        dict(line.split("=") for line in limits_file.read_text().splitlines()) if limits_file.exists() else {}
    )
    settings_file = machine(sandbox) / "etc" / "sysctl.d" / f"60-kbsync-{name}.conf"
    number = now.get(f"fs.inotify.{name}")
    assert number is None or settings_file.read_text() == f"fs.inotify.{name}={number}\n"
    return None if number is None else int(number)


@pytest.fixture
def small(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A machine with small limits, which commands can change."""

    def limits() -> observer.InotifyLimits:
        return observer.InotifyLimits(
            watches=set_to(sandbox, "max_user_watches") or 2,
            instances=set_to(sandbox, "max_user_instances") or 8,
        )

    monkeypatch.setattr(observer, "read_limits", limits)
    return sandbox


@proves("max_user_instances", "max_user_watches")
def test_kernel_limits_are_raised(small: Sandbox) -> None:
    small.write("a/b/c.md", "alpha")
    run_check = in_this_process(small, "inotify")
    few_watches, few_instances = (result["cure"] for result in run_check())
    assert [paste(small, fix).code for fix in (few_watches, few_instances)] == [0, 0]
    assert [result["result"] for result in run_check()] == ["ok"]


@proves("echo {} | sudo tee /etc/sysctl.d/60-kbsync-{}.conf && sudo sysctl -w {}")
def test_folder_can_be_watched_after_running_the_suggested_command(
    small: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def foreseen() -> observer.Obstacle | None:
        return observer.foreseen_obstacle("auto", "", 9, observer.read_limits())

    few = foreseen()
    assert few is not None and paste(small, few.fix).code == 0
    assert foreseen() is None
    monkeypatch.setattr(observer, "descriptors_used_up", lambda: False)
    before = observer.read_limits().instances or 0
    many = observer.start_obstacle(OSError(24, "too many open files"), observer.read_limits(), 9)
    assert paste(small, many.fix).code == 0
    assert (observer.read_limits().instances or 0) > before


@proves("sudo prlimit --pid {} --nofile={}:{}")
def test_process_out_of_descriptors_gets_more_while_it_runs(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(observer, "descriptors_used_up", lambda: True)
    monkeypatch.setattr(observer, "DESCRIPTORS", 300)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        fix = observer.start_obstacle(OSError(24, "too many open files"), observer.read_limits(), 9).fix
        assert paste(sandbox, fix).code == 0
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (300, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@proves("free some space on the disk of {}")
@pytest.mark.parametrize(("little", "check"), [("LITTLE_SPACE", "disk"), ("FEW_INODES", "inodes")])
def test_disk_usage_is_shown(
    sandbox: Sandbox, little: str, check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stands_on, little, 10**18)
    fix = fix_of(in_this_process(sandbox, check)())
    assert fix.startswith("free some space on the disk of /")
    assert Path(fix.rpartition(" the disk of ")[2]) in (sandbox.state, *sandbox.state.parents)


@long
@proves("sudo mount -o remount,rw {}")
def test_state_on_a_read_only_disk_is_not_an_ownership_problem(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.mirror({"a.md": "alpha"})
    real = os.statvfs

    def read_only(path: Any) -> Any:
        result = real(path)
        return os.statvfs_result((*tuple(result)[:8], result.f_flag | os.ST_RDONLY, result.f_namemax))

    monkeypatch.setattr(os, "statvfs", read_only)
    command, _, mount = fix_of(in_this_process(sandbox, "state")()).rpartition(" ")
    assert command == "sudo mount -o remount,rw"
    assert os.path.ismount(mount)
    assert str(sandbox.state).startswith(mount)


@long
@proves("sudo dmesg")
def test_failed_disk_of_the_state_or_the_base_is_reported(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = sandbox.root / "elsewhere" / "kb"
    sandbox.prepare({"a.md": "alpha"}, f"target: {{type: local, path: {base}}}")
    sandbox.run("--once").check_success()
    for failed, subject in ((sandbox.state, "state"), (base.parent, "handbook: knowledge base")):
        with monkeypatch.context() as patched:
            fail_disk(failed, patched)
            [check] = [c for c in sandbox.run("doctor", "--json").json["checks"] if c["result"] == "wrong"]
        assert check["name"] == subject
        assert check["detail"].endswith(f": {DISK_FAILED}")
        assert check["cure"] == "sudo dmesg"


@pytest.mark.parametrize("error", [apsw.IOError("disk I/O error"), OSError(errno.EROFS, "read-only")])
def test_failed_disk_of_the_base_halts_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    fail_disk(tmp_path, monkeypatch)
    halted = storage_error(tmp_path, error)
    assert isinstance(halted, Halted)
    assert (halted.halt, halted.fix) == ("index-read-only", "sudo dmesg")
    assert halted.reason.endswith(f": {DISK_FAILED}")


@long
@pytest.mark.parametrize("words", [["doctor"], ["--once"]])
def test_world_writable_state_is_refused_by_every_command(sandbox: Sandbox, words: list[str]) -> None:
    sandbox.prepare({"a.md": "alpha"})
    sandbox.state.mkdir(parents=True)
    sandbox.state.chmod(0o1777)
    result = sandbox.run(*words)
    assert result.code == 2
    assert "anyone can write to the state directory" in result.out + result.err
    if words == ["doctor"]:
        is_cured(sandbox, check_of(sandbox, "state"))


@long
@proves("chmod o-w {}")
def test_world_writable_state_is_refused_with_a_command_for_its_path(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    state = sandbox.root / "the team's state"
    state.mkdir(mode=0o700)
    state.chmod(0o777)
    words = ("--once", "--folder", sandbox.docs, "--state-dir", state)
    assert paste(sandbox, after(sandbox.run(*words).err, "or run: ")).code == 0
    assert stat.S_IMODE(state.stat().st_mode) == 0o775
    assert sandbox.run(*words).code == 0


@long
@proves("sudo systemctl restart {}", "systemctl --user restart {}")
@pytest.mark.parametrize(
    ("place_of_units", "handed_below", "command"),
    [
        ("home/.config/systemd/user", "home/user", "systemctl --user restart kbsync"),
        ("machine/etc/systemd/system", "credentials", "sudo systemctl restart kbsync"),
    ],
)
def test_unreadable_credentials_are_passed_again(
    sandbox: Sandbox, place_of_units: str, handed_below: str, command: str
) -> None:
    handed, units = sandbox.root / handed_below / "kbsync.service", sandbox.root / place_of_units
    handed.mkdir(parents=True)
    units.mkdir(parents=True)
    (handed / "zhipu").write_text("a key")
    (handed / "zhipu").chmod(0)
    (units / "kbsync.service").touch()
    sandbox.configure()
    env = {"CREDENTIALS_DIRECTORY": str(handed)}
    assert is_cured(sandbox, check_of(sandbox, "credentials", env=env), env=env) == command


# -- packages --------------------------------------------------------------------------------------------


def wheel(folder: Path, name: str, version: str, files: dict[str, Path]) -> dict[str, str]:
    """Create a package that pip can find and install; return the environment for that."""
    folder.mkdir(exist_ok=True)
    about = f"{name}-{version}.dist-info"
    texts = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    names = [*files, *(f"{about}/{file}" for file in (*texts, "RECORD"))]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, file in files.items():
            archive.write(file, path)
        for path, text in texts.items():
            archive.writestr(f"{about}/{path}", text)
        archive.writestr(f"{about}/RECORD", "".join(f"{path},,\n" for path in names))
    return {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
        "PIP_TARGET": str(folder / "installed"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }


@long
@proves("install *missing")
def test_missing_library_is_installed(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stands_on, "LIBRARIES", ("needed-by-kbsync",))
    env = wheel(sandbox.root / "wheels", "needed_by_kbsync", "1.0", {})
    monkeypatch.syspath_prepend(env["PIP_TARGET"])
    is_cured(sandbox, in_this_process(sandbox, "libraries"), env=env)


@long
@proves("install 'wordllama'")
def test_model_with_a_missing_file_is_reinstalled(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    model_folder = embed.wordllama_folder()
    files = {f"wordllama/{path}": model_folder / path for path in (embed.WEIGHTS, embed.TOKENIZER)}
    env = wheel(sandbox.root / "wheels", "wordllama", metadata.version("wordllama"), files)
    installed = Path(env["PIP_TARGET"], "wordllama")
    monkeypatch.setattr(embed, "wordllama_folder", lambda: installed)
    with pytest.raises(UsageError) as caught:
        embed.BuiltinEmbedder()
    pasted = paste(sandbox, str(caught.value).partition("reinstall it: ")[2], env=env)
    assert pasted.code == 0, pasted.err
    assert embed.BuiltinEmbedder().embed(["a word"]).any()


@proves("install *self._packages", "install 'onnxruntime'")
def test_missing_or_broken_package_comes_with_its_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError) as lacking:
        embed._session(tmp_path / "model.onnx")
    assert str(lacking.value).endswith(f"install it alongside kbsync: {install_command('onnxruntime')}")
    child = tmp_path / "child.py"
    child.write_text("raise SystemExit('pypdfium2 is broken')")
    with contextlib.closing(Parser(tmp_path, child=child)) as parser, pytest.raises(Unavailable) as broken:
        parser.parse("a.html", BytesBody(b"<p>words"))
    command = install_command("pypdfium2", "python-calamine", reinstall=True)
    assert str(broken.value).endswith(f"reinstall the parser packages with: {command}")
    with (
        contextlib.closing(PageParser(tmp_path, child=child)) as parser,
        pytest.raises(Unavailable) as broken,
    ):
        parser.read_page("a.pdf", BytesBody(b"%PDF-"), 1)
    assert "rapidocr" in str(broken.value)


@pytest.mark.parametrize("reinstall", [False, True])
def test_uv_installs_into_environments_made_by_uv(monkeypatch: pytest.MonkeyPatch, reinstall: bool) -> None:
    monkeypatch.setattr(metadata, "distributions", lambda **_: ())
    options = ["--force-reinstall", "--no-deps"] if reinstall else []
    command = ["uv", "pip", "install", "--python", sys.executable, *options, "needed-by-kbsync"]
    assert install_command("needed-by-kbsync", reinstall=reinstall) == shlex.join(command)


# -- services --------------------------------------------------------------------------------------------


@needs("curl")
@proves("curl -sSI {}")
def test_unreachable_service_is_checked_with_another_program(tmp_path: Path) -> None:
    with zhipu_sandbox(tmp_path) as zhipu:
        zhipu.service.leave()
        fix = result_of(zhipu, "connection")["cure"]
        assert paste(zhipu, fix).code == 7  # it couldn't connect either
        zhipu.service.arrive()
        answered = paste(zhipu, fix)
        assert (answered.code, answered.out.startswith("HTTP/")) == (0, True)


@proves("getent ahosts {}")
def test_unresolvable_host_is_looked_up_with_another_program(zhipu: ZhipuSandbox) -> None:
    zhipu.aim(url="https://nowhere.invalid:1")
    fix = result_of(zhipu, "DNS")["cure"]
    assert paste(zhipu, fix).code == 2  # nobody on this machine can resolve the name
    assert "127.0.0.1" in paste(zhipu, fix, **{"nowhere.invalid": "127.0.0.1"}).out


@long
@proves("set proxy: in the config to an http proxy, or add {} to NO_PROXY")
def test_socks_proxy_is_reported_where_it_would_be_used(zhipu: ZhipuSandbox) -> None:
    socks = {"ALL_PROXY": "socks5://127.0.0.1:7890"}
    assert check_of(zhipu, "handbook: proxy", socks)() == []  # the service is on this machine
    zhipu.aim(url="https://kb.invalid:1")
    [check] = check_of(zhipu, "handbook: proxy", socks)()
    assert check["detail"] == "ALL_PROXY is set to a SOCKS proxy, which kbsync cannot use"
    assert "kb.invalid" in check["cure"]
    assert check_of(zhipu, "handbook: proxy", {**socks, "NO_PROXY": "kb.invalid"})() == []


@long
def test_corrected_key_is_checked_with_the_hint_for_a_refused_one(zhipu: ZhipuSandbox) -> None:
    zhipu.write("a.md", "alpha")
    zhipu.service.turn(key_revoked=True)
    fix = result_of(zhipu, "key")["cure"]
    assert paste(zhipu, fix).code == 3
    zhipu.service.turn(key_revoked=False)
    assert paste(zhipu, fix).code == 0


@proves("sudo timedatectl set-ntp true")
def test_wrong_clock_is_set_from_the_network(zhipu: ZhipuSandbox) -> None:
    zhipu.service.turn(clock_skew=7200)
    check = result_of(zhipu, "clock")
    assert paste(zhipu, check["cure"]).code == 0


# -- the listener ----------------------------------------------------------------------------------------


def listen(sandbox: Sandbox, address: str) -> None:
    sandbox.config.write_text(
        f"{sandbox.config.read_text()}http: {{listen: '{address}', token: {'t' * 32}}}\n"
    )


@long
@needs("ss")
@proves("is in use; choose another port, or stop the program shown by ss -ltnp 'sport = :{}'")
def test_port_in_use_names_its_user(sandbox: Sandbox) -> None:
    sandbox.configure()
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        port = occupant.getsockname()[1]
        listen(sandbox, f"127.0.0.1:{port}")
        result = sandbox.run()
        assert (result.code, result.out, "is in use" in result.err, "daemon." in result.err) == (
            2,
            "",
            True,
            False,
        )
        command = result_of(sandbox, "listener")["detail"].partition("stop the program shown by ")[2]
        named = paste(sandbox, command)
    assert (named.code, f"pid={os.getpid()}" in named.out) == (0, True)
    assert result_of(sandbox, "listener")["result"] == "ok"


@needs("ip")
@proves("is not an address of this machine; choose one shown by ip addr, or 127.0.0.1")
def test_address_of_another_machine_comes_with_the_command_that_lists_ours(sandbox: Sandbox) -> None:
    sandbox.configure()
    listen(sandbox, "192.0.2.1:9753")
    command = (
        result_of(sandbox, "listener")["detail"].partition("choose one shown by ")[2].partition(", or ")[0]
    )
    assert "127.0.0.1" in paste(sandbox, command).out


@long
@proves("if process {} is the daemon, reload its config: kill -HUP {}")
def test_daemon_that_lost_its_listener_reloads_its_config(zhipu: ZhipuSandbox) -> None:
    daemon = zhipu.watch(until="daemon.started")
    listen(zhipu, f"127.0.0.1:{free_port()}")
    command = result_of(zhipu, "listener")["cure"].partition(" reload its config: ")[2]
    assert paste(zhipu, command).code == 0
    eventually(lambda: result_of(zhipu, "listener")["result"] == "ok")
    assert daemon.end() == 0


@proves("restart the daemon that is using this state")
def test_unidentifiable_lock_holder_comes_with_what_to_restart(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.configure()
    listen(sandbox, f"127.0.0.1:{free_port()}")
    sandbox.state.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(lock, "holder", lambda _state: "")
    with lock.held(sandbox.state):
        assert result_of(sandbox, "listener")["cure"] == "restart the daemon that is using this state"
