"""Tests `kbsync init`: few questions, no key in the config, a preview of the folder, an account's bases."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from kbsync.cli.folder_contents import describe, scan_folder
from kbsync.config import edit
from kbsync.config.places import folder_state_dir
from kbsync.config.reader import load
from kbsync.config.template import base_key, required_keys
from kbsync.contract.target import Limits
from kbsync.core.model import FileKind, Verdict
from kbsync.core.selection import Rules
from kbsync.state import lock
from kbsync.targets.registry import TARGETS
from kbsync_standin.zhipu import HOME_ID
from tests.cli.cures import proves
from tests.cli.pasting import paste
from tests.cli.sandbox import Sandbox
from tests.cli.zhipu import KEY, ZhipuSandbox
from tests.share import enumerated, long

SERVICES = [kind for kind in TARGETS if base_key(kind)]


BASE = "1734786402936664064"


MARKDOWN = Limits(extensions=frozenset({"md"}))


@pytest.mark.parametrize("kind", SERVICES)
def test_init_writes_a_valid_config_for_every_service_type(sandbox: Sandbox, kind: str) -> None:
    result = sandbox.run("init", "docs", "--target", kind, "--base", BASE).check_success()
    name = f"{kind.upper()}_API_KEY"
    assert f"export {name}=" in result.out
    assert "kbsync doctor" in result.out
    target = load(sandbox.config, {**os.environ, name: "id.secret-of-mine"}).mirrors[0].target
    assert target.type == kind
    assert getattr(target, next(iter(required_keys(kind)))) == BASE


def test_uncommented_defaults_are_valid(sandbox: Sandbox) -> None:
    for kind in SERVICES:
        file = sandbox.root / f"{kind}.yaml"
        assert sandbox.run("init", "docs", "--target", kind, "--base", BASE, "--config", file).code == 0
        lines = file.read_text().splitlines()
        target_line = lines.index("    target:")
        lines[target_line:] = [line.replace("      # ", "      ", 1) for line in lines[target_line:]]
        file.write_text("\n".join(lines))
        assert load(file, {f"{kind.upper()}_API_KEY": "id.secret-of-mine", "HOME": str(sandbox.home)}).mirrors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target", "lokal"), "did you mean local?"),
        (("--key-env", "id.secret-of-mine", "--base", BASE), "not the name of an environment variable"),
        (("--key-env", "A", "--key-file", "b", "--base", BASE), "cannot be used together"),
        ((), "pass --base ID"),
        (("--key-file", "nowhere", "--base", BASE), "nothing was written: "),
        (("--base", "not an id"), "nothing was written: "),
    ],
)
def test_invalid_settings_write_no_config(sandbox: Sandbox, words: tuple[str, ...], message: str) -> None:
    result = sandbox.run("init", "docs", "--target", SERVICES[0], *words)
    assert result.code == 2
    assert message in result.err
    assert "secret-of-mine" not in result.err
    assert not sandbox.config.exists()


@pytest.mark.parametrize(
    ("words", "typed", "kind"),
    [
        (["init"], ["docs", SERVICES[0], "", BASE], SERVICES[0]),
        (["init"], ["docs", ""], "local"),
        (["init", "nothere"], ["docs"], "local"),
        (["init", "docs"], [], "local"),
    ],
    ids=["all", "enter", "a folder that is not there", "nothing"],
)
def test_missing_settings_are_asked_for(
    sandbox: Sandbox, answers: list[str], words: list[str], typed: list[str], kind: str
) -> None:
    answers += typed
    result = sandbox.run(*words)
    message = "kbsync: nothere does not exist; create it with: mkdir -p nothere\n"
    assert (result.code, result.err == message) == (0, "nothere" in words), result.err
    mirror = load(sandbox.config, {f"{SERVICES[0].upper()}_API_KEY": "id.secret-of-mine"}).mirrors[0]
    assert (mirror.folder, mirror.target.type) == (sandbox.docs, kind)


@long
def test_mistyped_answers_are_asked_again(sandbox: Sandbox, answers: list[str]) -> None:
    key = sandbox.root / "key"
    key.write_text("id.secret-of-mine")
    answers += ["nothere", "docs/a.md", "docs", "lokal", SERVICES[0]]
    answers += ["id.secret-of-mine", f"{sandbox.root}/nokey", str(key), BASE]
    sandbox.write("a.md", "alpha")
    result = sandbox.run("init").check_success()
    assert load(sandbox.config, {}).mirrors[0].folder == sandbox.docs
    assert f'api_key_file: "{key}"' in sandbox.config.read_text()
    assert sandbox.config.stat().st_mode & 0o777 == 0o600
    expected = [
        "nothere does not exist; create it with: mkdir -p nothere",
        "docs/a.md is a file; choose a folder",
        "did you mean local?",
        "not the name of an environment variable",
        "no such file",
    ]
    assert [words for words in expected if words not in result.err] == []
    assert "secret-of-mine" not in result.err + sandbox.config.read_text()


def test_init_summarises_the_folder(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    sandbox.write("b/c.md", "beta" * 1000)
    sandbox.write("b/d.txt", "gamma")
    sandbox.write("e.bin", b"\x00")
    sandbox.write("empty.md", "")
    sandbox.write(".git/config", "[core]")
    out = sandbox.run("init", "docs").out
    assert "docs: 3 documents, 4.0 kB to mirror" in out
    assert "  md         2   4.0 kB" in out
    assert "(empty), such as empty.md" in out
    assert "such as e.bin" in out


def test_init_survey_follows_the_ignore_rules_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "drafts").mkdir()
    (tmp_path / "drafts" / "a.md").write_text("alpha")
    (tmp_path / "b.md").write_text("beta")
    (tmp_path / "link.md").symlink_to("b.md")
    (tmp_path / ".kbsyncignore").write_text("drafts/\n")
    contents = scan_folder(tmp_path, Rules(None, (), MARKDOWN))
    assert contents.selected == {"md": 1}
    assert contents.example["excluded folders"] == "drafts/"
    (tmp_path / "a.\x1b[2J").write_text("alpha")
    contents = scan_folder(tmp_path, Rules(None, (), MARKDOWN), seconds=-1)
    lines = list(describe("docs", tmp_path, contents, is_paid=True))
    assert not contents.is_complete and "so far" in lines[0]
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize(
    ("rules", "selected"),
    [(b"caf\xe9.md\n", {"md": 1}), (b"[z-\n", {}), ("link", {}), ("fifo", {})],
    ids=["not UTF-8", "invalid", "a link", "a fifo"],
)
def test_init_survey_reads_ignore_files_as_a_pass_does(
    tmp_path: Path, rules: bytes | str, selected: dict[str, int]
) -> None:
    """What a pass can't use stops it there, and so the survey."""
    for name in ("a.md", "caf\udce9.md"):
        (tmp_path / name).write_text("alpha")
    file = tmp_path / ".kbsyncignore"
    if isinstance(rules, bytes):
        file.write_bytes(rules)
    elif rules == "link":
        file.symlink_to("a.md")
    else:
        os.mkfifo(file)
    contents = scan_folder(tmp_path, Rules(None, (), MARKDOWN))
    assert contents.selected == selected
    assert any(".kbsyncignore" in reason for reason in contents.left_out) is not bool(selected)
    assert ("./" in contents.example.values()) is not bool(selected)  # as a pass names the folder itself


def test_what_is_deleted_during_the_survey_is_not_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.md", "b.md", "c.md"):
        (tmp_path / name).write_text("alpha")
    (tmp_path / "folder").mkdir()
    original = Rules.verdict

    def verdict(rules: Rules, path: str, size: int, kind: FileKind) -> Verdict:
        if path == "a.md":
            (tmp_path / "b.md").unlink()
            (tmp_path / "folder").rmdir()
        return original(rules, path, size, kind)

    monkeypatch.setattr(Rules, "verdict", verdict)
    contents = scan_folder(tmp_path, Rules(None, (), MARKDOWN))
    assert (contents.selected, contents.unreadable, contents.left_out) == ({"md": 2}, 0, {})


@pytest.mark.parametrize("settings", ["[" * 100_000, "no JSON", "[]"])
def test_unreadable_settings_of_a_vault_exclude_nothing(tmp_path: Path, settings: str) -> None:
    (tmp_path / ".obsidian").mkdir()
    (tmp_path / ".obsidian" / "app.json").write_text(settings)
    assert scan_folder(tmp_path, Rules(None, (), MARKDOWN)).vaults == {"": []}


def test_unused_gitignore_files_are_reported(tmp_path: Path) -> None:
    for name in ("both/.gitignore", "both/.kbsyncignore", "git/.gitignore", "none/a.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("*.log\n")
    lines = describe("docs", tmp_path, scan_folder(tmp_path, Rules(None, (), MARKDOWN)), is_paid=False)
    [line] = [line for line in lines if "doesn't read" in line]
    assert (
        line
        == "  kbsync doesn't read git/.gitignore; to exclude the files it lists, copy it to .kbsyncignore"
    )


ENV = {"ZHIPU_API_KEY": KEY}


@pytest.fixture
def zhipu(zhipu: ZhipuSandbox) -> ZhipuSandbox:
    """A sandbox without a config."""
    zhipu.config.unlink()
    return zhipu


def begin(zhipu: ZhipuSandbox, *words: str, env: dict[str, str] = ENV) -> tuple[str, str]:
    """Return the output of `init`, and the base in the config."""
    result = zhipu.run(
        "init", "docs", "--target", "zhipu", "--base-url", f"{zhipu.service.url}/api", *words, env=env
    )
    assert result.code == 0, result.err
    target = load(zhipu.config, ENV).mirrors[0].target
    assert target.base_url == f"{zhipu.service.url}/api"  # type: ignore[union-attr]
    return result.err, target.knowledge_id  # type: ignore[union-attr]


def names(zhipu: ZhipuSandbox) -> dict[str, str]:
    result = zhipu.run("kb", "list", "--json", env=ENV).json["knowledge_bases"]
    return {base["id"]: base["name"] for base in result}


@pytest.mark.parametrize("typed", ["1", HOME_ID, "handbook"])
def test_base_is_chosen_from_those_of_the_account(
    zhipu: ZhipuSandbox, answers: list[str], typed: str
) -> None:
    answers += ["", typed]
    dialog, base = begin(zhipu)
    assert f"1  {HOME_ID}  handbook" in dialog
    assert base == HOME_ID
    assert zhipu.run("--once", env=ENV).code == 0


def test_new_base_is_created_after_confirmation(zhipu: ZhipuSandbox, answers: list[str]) -> None:
    answers += ["", "guides", "n", "guides", "y"]
    dialog, base = begin(zhipu)
    assert dialog.count("handbook") == 2  # after a no, they are shown again
    assert names(zhipu) == {HOME_ID: "handbook", base: "guides"}


def test_existing_bases_are_listed_without_a_terminal_and_nothing_is_written(zhipu: ZhipuSandbox) -> None:
    url = f"{zhipu.service.url}/api"
    result = zhipu.run("init", "docs", "--target", "zhipu", "--base-url", url, env=ENV)
    assert (result.code, result.out) == (2, "")
    assert f"1  {HOME_ID}  handbook" in result.err
    assert "pass --base ID, or --create NAME" in result.err
    assert not zhipu.config.exists()


@pytest.mark.parametrize(
    ("env", "why"),
    [({}, "$ZHIPU_API_KEY is not set"), ({"ZHIPU_API_KEY": "kid-4711.another"}, "rejected the API key")],
)
def test_id_is_asked_for_when_the_account_cannot_be_queried(
    zhipu: ZhipuSandbox, answers: list[str], env: dict[str, str], why: str
) -> None:
    answers += ["", HOME_ID]
    dialog, base = begin(zhipu, env=env)
    assert f"cannot be listed: {why}" in dialog or why in dialog
    assert base == HOME_ID


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\n", "key is empty; write the value into it"),
        (b"\xff\xfe", "key is not text (UTF-8)"),
        ("ключ".encode(), "the value is not valid; allowed: "),
        (f"{KEY}\n\n".encode(), "the value contains a line break; allowed: "),
    ],
    ids=["empty", "binary", "not ASCII", "two lines"],
)
def test_key_that_the_config_would_refuse_is_refused_at_once(
    zhipu: ZhipuSandbox, content: bytes, reason: str
) -> None:
    (zhipu.root / "key").write_bytes(content)
    result = zhipu.run("init", "docs", "--target", "zhipu", "--create", "guides", "--key-file", "key")
    assert (result.code, reason in result.err, KEY in result.err) == (2, True, False)
    assert not zhipu.config.exists()


def test_no_base_is_created_for_an_unwritable_config(zhipu: ZhipuSandbox) -> None:
    zhipu.config.parent.mkdir(parents=True, exist_ok=True)
    zhipu.config.write_text("")
    zhipu.run("init", "docs", "--target", "zhipu", "--create", "guides", env=ENV).check_refusal(2)
    assert zhipu.service.effects("base-created") == []


@proves("; to use it, pass this id with --base")
def test_base_left_by_an_interrupted_init_is_named_with_its_option(zhipu: ZhipuSandbox) -> None:
    url = ("--base-url", f"{zhipu.service.url}/api")
    result = zhipu.run("init", "docs", "--target", "zhipu", *url, "--create", "handbook", env=ENV)
    assert (result.code, result.out) == (2, "")
    assert f"already exists: {HOME_ID}; to use it, pass this id with --base\n" in result.err
    assert not zhipu.config.exists()
    zhipu.service.play("status", op="create-base", effect=False, args={"status": 400})
    result = zhipu.run("init", "docs", "--target", "zhipu", *url, "--create", "guides", env=ENV)
    assert (result.code, result.out, "--base" in result.err) == (2, "", False), result.err
    _, base = begin(zhipu, "--base", HOME_ID)
    assert base == HOME_ID


@long
def test_no_base_is_created_while_a_kbsync_uses_the_folder_state(zhipu: ZhipuSandbox) -> None:
    zhipu.write("a.md", "alpha")
    assert zhipu.run("--once", "--folder", "docs").code == 0
    url = ("--base-url", f"{zhipu.service.url}/api")
    with lock.held(folder_state_dir(zhipu.docs, zhipu.state)):
        result = zhipu.run("init", "docs", "--target", "zhipu", *url, "--create", "guides", env=ENV)
    assert (result.code, result.out) == (4, "")
    assert zhipu.service.effects("base-created") == []
    assert not zhipu.config.exists()
    _, base = begin(zhipu, "--create", "guides")
    assert names(zhipu) == {HOME_ID: "handbook", base: "guides"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files in the home of others")
def test_files_written_by_root_belong_to_the_home_owner(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    os.chown(sandbox.home, 12345, 12345)
    assert sandbox.run("init", "docs").code == 0
    assert {file.stat().st_uid for file in sandbox.home.rglob("*")} == {12345}


def test_state_comment_names_the_users_own_directory(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    assert sandbox.run("init", "docs").code == 0
    assert f'# state_dir: "{sandbox.state}"' in sandbox.config.read_text()


def test_every_exclusion_reason_is_named(sandbox: Sandbox) -> None:
    for name in ("a.exe", "b.bin", "c.iso", "d.dll", "e.o", "f~", "g.tmp", "h.bak", "i.md~", ".hidden.md"):
        sandbox.write(name, "something")
    sandbox.write("empty.md", "")
    out = sandbox.run("init", "docs").out
    for extension in ("exe", "bin", "iso", "dll", "o"):
        assert f"the target doesn't accept .{extension} files" in out
    for reason in ("*~", "*.tmp", "*.bak", "hidden", "empty"):
        assert reason in out


@long
@enumerated()
@pytest.mark.parametrize("command", ["init", "add"])
def test_vault_is_recognized_with_its_own_search_exclusions(sandbox: Sandbox, command: str) -> None:
    settings = {"userIgnoreFilters": ["old stuff/", "/^x.*/", "gone/", 7, "a*b"]}
    sandbox.write("vault/.obsidian/app.json", json.dumps(settings))
    sandbox.write("vault/.obsidian/templates.json", '{"folder": "Templates"}')
    sandbox.write("other/.obsidian/app.json", "{")
    for path in ("vault/note.md", "vault/old stuff/b.md", "vault/Templates/daily.md", "other/c.md", "d.md"):
        sandbox.write(path, "text")
    if command == "add":
        (sandbox.root / "other").mkdir()
        assert sandbox.run("init", "other").code == 0
    lines = sandbox.run(command, "docs").out.splitlines()
    words = " an Obsidian vault: searches find aliases, tags, properties and links"
    assert {f"  vault/ is{words}", f"  other/ is{words}"} <= set(lines)
    [advice] = [line for line in lines if "to exclude" in line]
    assert advice.startswith("  to exclude Templates, old stuff, as Obsidian's search does: printf ")
    assert paste(sandbox, advice.partition("does: ")[2]).code == 0
    assert sandbox.once()["uploaded"] == 3
    assert sorted(sandbox.search("text")) == ["d.md", "other/c.md", "vault/note.md"]


def test_vault_folders_with_special_characters_are_excluded(sandbox: Sandbox) -> None:
    folders = [
        "#inbox",
        "!wow",
        "C# notes",
        'It\'s "q"',
        "a: b",
        "b[1]",
        "c*",
        "d?",
        "e\\f",
        "end ",
        "模板 文件",
    ]
    ignored = ["/regex/", "gone*/", ".", "..", "kept/../d?"]
    sandbox.write(".obsidian/app.json", json.dumps({"userIgnoreFilters": [*folders, *ignored]}))
    for folder in [*folders, "b1", "cc", "kept"]:
        sandbox.write(f"{folder}/a.md", "text")
    lines = sandbox.run("init", "docs").out.splitlines()
    [advice] = [line for line in lines if "to exclude" in line]
    assert paste(sandbox, advice.partition("does: ")[2]).code == 0
    assert sandbox.once()["uploaded"] == 3
    assert sorted(sandbox.search("text")) == ["b1/a.md", "cc/a.md", "kept/a.md"]


def test_limit_that_stops_init_is_named(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))

    monkeypatch.setattr(edit, "create_config", refuse)
    result = sandbox.run("init", "docs")
    fix = "file too large; raise the limit on file sizes (ulimit -f, LimitFSIZE=)"
    assert (result.code, result.err) == (4, f"kbsync: {sandbox.config}: {fix}\n")
