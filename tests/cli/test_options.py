"""Tests which config, folder and state a command line selects, and how wrong ones are refused."""

from __future__ import annotations

import os
import pwd
from typing import NoReturn

import pytest

from kbsync.cli.main import kbsync
from kbsync.config import places
from tests.cli.sandbox import RunResult, Sandbox, words_of
from tests.cli.zhipu import ZhipuSandbox
from tests.share import long


@pytest.mark.parametrize(
    "command", ["--once", "plan", "search x", "explain a.md", "verify", "status", "retry"]
)
def test_missing_folder_is_a_usage_error_and_nothing_is_created(sandbox: Sandbox, command: str) -> None:
    before = sandbox.files()
    result = sandbox.run(*command.split(), "--folder", "dosc")
    assert (result.code, result.out) == (2, "")
    assert result.err == f"kbsync: no such folder: {sandbox.root}/dosc\n"
    assert sandbox.files() == before


def test_missing_folder_of_a_known_mirror_halts(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "text")
    assert sandbox.run("--once", "--folder", "docs").code == 0
    sandbox.docs.rename(sandbox.root / "away")
    for words in (["--once"], ["plan"]):
        result = sandbox.run(*words, "--folder", "docs")
        assert result.code == 3
        assert "or if it has moved, correct `folder` in the config or --folder" in result.out + result.err
    assert sandbox.run("search", "text", "--files", "--folder", "docs").code == 0


@pytest.mark.parametrize("words", [[], ["--once"]])
def test_pass_does_not_guess_a_folder(mirrored: Sandbox, words: list[str]) -> None:
    mirrored.run(*words, cwd=mirrored.docs).check_refusal(2, "--folder DIR")


@long
def test_other_commands_use_the_folder_containing_the_working_directory(sandbox: Sandbox) -> None:
    sandbox.write_all({"a.md": "text", "blank.md": " "})
    assert sandbox.run("--once", "--folder", "docs").code == 0

    def run_in_docs(*words: str) -> RunResult:
        return sandbox.run(*words, cwd=sandbox.docs)

    (sandbox.docs / "guides").mkdir()
    status_report = sandbox.run("status", "--json", cwd=sandbox.docs / "guides").json["mirrors"][0]
    assert status_report["folder"] == str(sandbox.docs)
    assert run_in_docs("plan", "--json").json["mirrors"][0]["unchanged"] == 1
    assert "docs: 1 document will be retried" in run_in_docs("retry", "blank.md").out
    assert run_in_docs("approve").out == "nothing is held\n"
    assert "kbsync search what --folder" in run_in_docs("ask", "what").err
    assert run_in_docs("state", "backup", str(sandbox.root / "copy.db")).code == 0
    assert run_in_docs("forget", "docs", "--yes").out.startswith("docs is forgotten\n")


def test_hint_includes_a_state_dir_set_only_by_systemd(sandbox: Sandbox) -> None:
    sandbox.configure()
    result = sandbox.run("status", env={"STATE_DIRECTORY": str(sandbox.root / "systemd")})
    assert f"--state-dir {sandbox.root}/systemd" in result.out
    assert "--config" not in result.out


def test_state_directory_of_systemd_needs_no_home(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_user: int) -> NoReturn:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    config = sandbox.configure(file=sandbox.root / "kbsync.yaml")
    env = {"HOME": "none", "STATE_DIRECTORY": str(sandbox.root / "systemd")}
    result = sandbox.run("status", "--config", config, env=env)
    assert (result.code, result.err) == (0, "")
    assert f"--config {config} --state-dir {sandbox.root}/systemd" in result.out


@pytest.mark.parametrize("command", ["explain", "history", "retry"])
def test_empty_path_does_not_mean_all_files(sandbox: Sandbox, command: str) -> None:
    sandbox.configure()
    sandbox.run(command, "").check_refusal(2, "is empty; see: kbsync")


def test_help_is_a_command_too(sandbox: Sandbox) -> None:
    for words in ([], ["search"], ["state", "backup"]):
        output = sandbox.run("help", *words)
        assert (output.code, output.err) == (0, "")
        assert output.out == sandbox.run(*words, "--help").out
    every = sandbox.run("help", "options").out
    assert [option for param in kbsync.params for option in param.opts if f"{option}" not in every] == []
    assert "\n  3         needs your decision\n" in every
    assert len(every.splitlines()) <= 40
    assert sandbox.run("help", "options", "--config", "none.yaml").out == every
    assert sandbox.run("help", "--config", "none.yaml").out == sandbox.run("help").out
    assert sandbox.run("help", "--config", "none.yaml", "options").out == every
    sandbox.run("help", "--bogus").check_refusal(2, "No such option '--bogus'.", "See: kbsync --help")


@pytest.mark.parametrize("command", ["search x", "explain a.md", "verify"])
def test_searched_locations_are_listed_without_config_and_folder(mirrored: Sandbox, command: str) -> None:
    result = mirrored.run(*command.split(), cwd=mirrored.root)
    result.check_refusal(2, str(mirrored.config), "/etc/kbsync/config.yaml")
    assert str(mirrored.docs) in result.err  # the known folder
    assert "--folder DIR" in result.err


@pytest.fixture
def unreadable_system_config(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    # A directory of its own: a config below the system's directory has its state in /var/lib/kbsync.
    system = sandbox.root / "etc" / "config.yaml"
    system.parent.mkdir()
    system.write_text("mirrors: [{folder: /srv/handbook}]\n")

    def access(path: os.PathLike[str], mode: int) -> bool:  # the mode of the file would not stop root
        return (path, mode) != (system, os.R_OK) and real(path, mode)

    real = os.access
    monkeypatch.setattr(os, "access", access)
    monkeypatch.setattr(places, "SYSTEM_CONFIG", system)


def test_system_config_does_not_stop_users_who_may_not_read_it(
    sandbox: Sandbox, unreadable_system_config: None
) -> None:
    sandbox.write("a.md", "text")
    assert sandbox.run("--once", "--folder", "docs").code == 0
    assert sandbox.run("status", "--json", cwd=sandbox.docs).json["mirrors"][0]["folder"] == str(sandbox.docs)
    added = sandbox.run("add", "docs")
    assert (added.code, added.err) == (0, "")
    assert f"{sandbox.home}/.config/kbsync/config.yaml" in added.out


def test_unreadable_system_config_is_named_if_there_is_no_other(
    sandbox: Sandbox, unreadable_system_config: None
) -> None:
    result = sandbox.run("status")
    assert result.code == 2
    assert f"{sandbox.root}/etc/config.yaml (not readable)" in result.err
    assert f"to use {sandbox.root}/etc/config.yaml, run the command with sudo\n" in result.err


@pytest.mark.parametrize(
    "words", [["--folder", "docs", "status", "--json"], ["status", "--json", "--folder", "docs"]]
)
def test_options_work_before_and_after_the_command(sandbox: Sandbox, words: list[str]) -> None:
    assert sandbox.run(*words).json["mirrors"][0]["name"] == "docs"


LOOKING = [
    "status",
    "status --json --documents",
    "status --check",
    "search password",
    "plan",
    "plan --json",
    "explain install.md --text",
    "explain empty.md --json",
    "verify",
    "verify --json",
]


@pytest.mark.parametrize("command", LOOKING)
def test_read_only_commands_leave_and_change_no_file(mirrored: Sandbox, command: str) -> None:
    before = mirrored.files()
    mirrored.run(*command.split(), "--folder", "docs").check_success()
    assert mirrored.files() == before


@pytest.mark.parametrize("command", ["status", "status --json", "plan", "explain a.md", "search x", "verify"])
def test_read_only_commands_before_the_first_pass_create_nothing(sandbox: Sandbox, command: str) -> None:
    sandbox.write("a.md", "alpha")
    before = sandbox.files()
    result = sandbox.run(*command.split(), "--folder", "docs")
    assert result.code in (0, 2), result.err
    assert "Traceback" not in result.err
    assert sandbox.files() == before


# -- without the key -------------------------------------------------------------------------------------


@long
def test_user_without_the_services_key_can_view_and_decide(zhipu: ZhipuSandbox) -> None:
    """The key may be readable only by the service, not in a person's shell."""
    zhipu.mirror({f"{number}.md": f"text {number}" for number in range(8)})
    for number in range(6):
        (zhipu.docs / f"{number}.md").unlink()
    assert zhipu.go("--once").code == 3
    zhipu.aim(key="api_key_file: ${CREDENTIALS_DIRECTORY}/zhipu")
    requests_before = zhipu.service.request_count()
    for command in ("status", "status --documents", "approve handbook --yes", "retry"):
        result = zhipu.run(*command.split())
        assert (result.code, result.words) == (0, ""), command
    assert zhipu.service.request_count() == requests_before
    result = zhipu.run("doctor", "--json")
    assert result.code == 2
    wrong = [check for check in result.json["checks"] if check["result"] == "wrong"]
    assert {check["name"] for check in wrong} == {"config", "handbook: knowledge base"}
    for command in ("--once", "search text", "explain 7.md"):
        result = zhipu.run(*command.split())
        assert (result.code, "is not set in the environment" in result.words) == (2, True), command
    zhipu.aim()
    assert zhipu.once()["deleted"] == 6


@pytest.mark.parametrize("option", ["--folder", "--config", "--state-dir"])
@pytest.mark.parametrize("location", ["before", "after", "around"])
def test_repeated_location_option_is_refused(sandbox: Sandbox, option: str, location: str) -> None:
    first, second = (option, "one"), (option, "two")
    words = {
        "before": (*first, *second, "status"),
        "after": ("status", *first, *second),
        "around": (*first, "status", *second),
    }[location]
    result = sandbox.run(*words)
    assert (result.code, result.out) == (2, "")
    assert f"{option}: takes one path, not one and two" in result.err.replace("'", "")


def test_tilde_in_a_path_option_is_the_home(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    config = sandbox.home / "kbsync.yaml"
    assert sandbox.run("init", "docs", "--config=~/kbsync.yaml", "--state-dir=~/state").code == 0
    assert f'state_dir: "{sandbox.home}/state"' in config.read_text()
    assert sandbox.run("list", "--json", env={"KBSYNC_CONFIG": "~/kbsync.yaml"}).code == 0
    assert not list(sandbox.root.rglob("~"))


@long
def test_config_may_come_from_a_pipe(sandbox: Sandbox) -> None:
    """`kbsync --once --config <(decrypt config.yaml)`, which can be read only once."""
    sandbox.prepare({"a.md": "alpha"})
    reader, writer = os.pipe()
    try:
        os.write(writer, sandbox.config.read_bytes())
        os.close(writer)
        sandbox.run("--once", "--config", f"/dev/fd/{reader}").check_success()
    finally:
        os.close(reader)


def test_location_may_be_given_twice(mirrored: Sandbox) -> None:
    assert mirrored.run("--folder", "docs", "status", "--folder", "docs").code == 0


def test_pass_without_a_folder_suggests_the_enclosing_one(mirrored: Sandbox, sandbox: Sandbox) -> None:
    for inside, folder in ((mirrored, mirrored.docs / "guides"), (sandbox, sandbox.docs)):
        result = inside.run("--once", cwd=folder)
        assert result.code == 2
        [line] = [line for line in result.err.splitlines() if "to mirror the current folder once" in line]
        command = line.partition("run: ")[2]
        assert command == f"kbsync --once --folder {inside.docs}"
        assert inside.run(*words_of(command)).code == 0
