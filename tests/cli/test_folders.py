"""Tests `kbsync add`, `remove` and `list`."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from kbsync import file_systems
from kbsync.cli.commands import remove
from kbsync.config import places
from kbsync.config.model import Needs
from kbsync.config.reader import load
from kbsync.file_systems import Mount
from kbsync.state import lock
from tests.cli import dying
from tests.cli.cures import proves
from tests.cli.pasting import after, paste
from tests.cli.sandbox import LONGEST, PIPES, Sandbox, eventually
from tests.cli.terminal import Begin
from tests.cli.zhipu import ZhipuSandbox
from tests.share import enumerated, long
from tests.warm import Warm

COMMENTED = """\
# My folders, with a comment that stays.
mirrors:
  - name: handbook   # the first
    folder: {docs}
    settle: 100ms
    # exclude: ["drafts/"]

# The listener comes later.
"""


@pytest.fixture
def second_folder(sandbox: Sandbox) -> Path:
    """A second folder, next to one with a config full of comments."""
    sandbox.prepare({"a.md": "alpha"})
    sandbox.config.write_text(COMMENTED.format(docs=json.dumps(str(sandbox.docs))))
    folder = sandbox.root / "More Notes"
    folder.mkdir()
    (folder / "b.md").write_text("beta")
    return folder


def names(sandbox: Sandbox) -> list[str]:
    config = load(sandbox.config, {"HOME": str(sandbox.home)}, Needs(folders=False))
    return [mirror.name for mirror in config.mirrors]


def dies(sandbox: Sandbox, step: int, *words: str | Path) -> bool:
    """Return whether the command was killed before it ended."""
    env = sandbox.environ({dying.DIES_AT: str(step)})
    process = sandbox.keep(Warm(words, module=dying.__name__, cwd=sandbox.root, env=env, **PIPES))
    _, err = process.communicate(timeout=LONGEST)
    assert process.returncode in (0, -signal.SIGKILL), err
    return process.returncode != 0


# -- add ---------------------------------------------------------------------------------------------------


@long
def test_added_folder_keeps_the_comments_in_the_config(sandbox: Sandbox, second_folder: Path) -> None:
    before = sandbox.config.read_text()
    result = sandbox.run("add", "More Notes")
    assert (result.code, result.err) == (0, "")
    assert (
        result.out == f"added more-notes ({second_folder}) to {sandbox.config}\nto mirror it: kbsync --once\n"
    )
    added = f'  - name: "more-notes"\n    folder: "{second_folder}"\n'
    assert sandbox.config.read_text() == before.replace("\n\n# The", f"\n{added}\n# The")
    assert paste(sandbox, after(result.out, "to mirror it: ")).code == 0
    assert sandbox.search("beta")[0] == "b.md"
    assert sandbox.run("remove", "more-notes", "--keep").code == 0
    assert sandbox.config.read_text() == before


def test_add_without_a_config_writes_the_one_of_init(sandbox: Sandbox, second_folder: Path) -> None:
    sandbox.config.unlink()
    result = sandbox.run("add", second_folder, "--name", "team")
    assert (result.code, result.out.splitlines()[0]) == (0, f"wrote {sandbox.config}")
    written = sandbox.config.read_text()
    sandbox.config.unlink()
    assert sandbox.run("init", second_folder).code == 0
    assert written == sandbox.config.read_text().replace('"more-notes"', '"team"')


@long
@enumerated()
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "{list}"),
        ("# Nothing yet", "# Nothing yet\n{list}"),
        ("mirrors: []\n", "{list}"),
        ("mirrors:\n", "{list}"),
        ("http: {{listen: '127.0.0.1:9'}}\r\n", "http: {{listen: '127.0.0.1:9'}}\r\n{list}"),
        (
            "# First\nmirrors: [ ]   # none yet\nhttp: {{listen: '127.0.0.1:9'}}  # last\n",
            "# First\nmirrors:  # none yet\n{item}http: {{listen: '127.0.0.1:9'}}  # last\n",
        ),
    ],
)
def test_first_folder_is_added_to_a_config_without_mirrors(
    sandbox: Sandbox, second_folder: Path, text: str, expected: str
) -> None:
    sandbox.config.write_bytes(text.format().encode())
    result = sandbox.run("add", "More Notes")
    assert (result.code, result.err) == (0, "")
    item = f'  - name: "more-notes"\n    folder: "{second_folder}"\n'
    lines = expected.format(list=f"mirrors:\n{item}", item=item)
    newline = "\r\n" if "\r" in text else "\n"
    assert sandbox.config.read_bytes().decode() == lines.replace("\r", "").replace("\n", newline)
    assert sandbox.run("add", "docs").code == 0
    assert names(sandbox) == ["more-notes", "docs"]


def test_first_folder_is_added_only_to_an_otherwise_valid_config(
    sandbox: Sandbox, second_folder: Path
) -> None:
    for text, problem in (
        ("mirrors: []\nhtp: 1\n", "htp"),
        ("mirrors: none\n", "mirrors"),
        ('{"mirrors": []}\n', "add these lines to `mirrors:` yourself"),
    ):
        sandbox.config.write_text(text)
        result = sandbox.run("add", "More Notes")
        assert (result.code, problem in result.err, sandbox.config.read_text()) == (2, True, text)
    assert sandbox.run("status").code == 2


def test_folders_with_equal_names_in_other_scripts_are_added_without_a_question(sandbox: Sandbox) -> None:
    expected = {"笔记": "folder", "照片": "folder-2", "2024 手册": "2024", "2024相册": "2024-2"}
    for folder, name in expected.items():
        result = sandbox.run("add", sandbox.add_folder(folder), "--json").check_success()
        assert result.json["added"] == name
        assert f"already belongs to mirror {name}" in sandbox.run("add", sandbox.root / folder).err
    names = [mirror["name"] for mirror in sandbox.run("list", "--json").json["mirrors"]]
    assert names == list(expected.values())


def test_add_reports_its_result_as_json(sandbox: Sandbox, second_folder: Path) -> None:
    expected = {"added": "n", "folder": str(second_folder), "target": "local", "config": str(sandbox.config)}
    assert sandbox.run("add", second_folder, "--name", "n", "--json").json == expected
    [first, second] = sandbox.run("list", "--json").json["mirrors"]
    assert first["name"] == "handbook"
    assert second == {"name": "n", "folder": str(second_folder), "target": "local", "problem": None}
    result = sandbox.run("remove", "n", "--keep", "--json")
    counts = {"kept": 0, "deleted": 0}
    assert result.json == {"removed": "n", "documents": counts, "config": str(sandbox.config)}
    sandbox.config.unlink()
    assert sandbox.run("add", second_folder, "--name", "n", "--json").json == expected


@long
@proves("add the mirror to {} yourself; for an example, run: {}", "write that config with: {}")
def test_refusal_comes_with_a_fix_and_changes_nothing(sandbox: Sandbox, second_folder: Path) -> None:
    (sandbox.root / "docs 2" / "handbook").mkdir(parents=True)
    (sandbox.root / "lost").symlink_to("unplugged")
    before = sandbox.config.read_bytes(), sandbox.config.stat().st_ino
    refused = {
        ("docs",): f"{sandbox.docs} already belongs to mirror handbook",
        ("docs 2/handbook",): f"handbook is already the name of {sandbox.docs}; choose another: kbsync add ",
        ("nowhere",): "nowhere does not exist; create it with: mkdir -p nowhere",
        ("--", "-no"): "-no does not exist; create it with: mkdir -p ./-no",
        (str(sandbox.docs / "a.md"),): "a.md is a file; choose a folder",
        ("lost",): "lost is a symbolic link to a folder that does not exist; choose another folder",
        (
            "home",
        ): f"the state directory {sandbox.state} is inside the mirrored folder {sandbox.home}; choose",
        (
            str(second_folder),
            "--name",
            "No name",
        ): "kbsync: --name: 'No name' is not valid; allowed: lower-case",
        (str(second_folder), "--name", ""): "kbsync: --name: '' is not valid; allowed: lower-case",
        (str(second_folder), "--target", "lokal"): "did you mean local?",
        (
            str(second_folder),
            "--target",
            "zhipu",
        ): "a target of type zhipu needs more settings (api_key, knowledge_id)",
    }
    results = {words: sandbox.run("add", *words) for words in refused}
    assert {words: (result.code, result.out) for words, result in results.items()} == dict.fromkeys(
        refused, (2, "")
    )
    assert [words for words, says in refused.items() if says not in results[words].err] == []
    assert (sandbox.config.read_bytes(), sandbox.config.stat().st_ino) == before
    example = after(results[str(second_folder), "--target", "zhipu"].err, "for an example, run: ")
    assert paste(sandbox, f"{example} --base 4711").code == 0
    retry = after(results[("docs 2/handbook",)].err, "choose another: ")
    assert paste(sandbox, retry, NAME="team").code == 0
    assert names(sandbox) == ["handbook", "team"]
    result = sandbox.run("add", "--folder", "docs", "docs")
    assert after(result.err, "as an argument: ") == "kbsync add docs"
    sandbox.config.unlink()
    init = after(sandbox.run("add", second_folder, "--target", "zhipu").err, "write that config with: ")
    assert paste(sandbox, f"{init} --base 4711").code == 0


@pytest.mark.parametrize("command", ["init", "add"])
def test_new_config_needs_a_path_if_no_home_directory_is_known(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    sandbox.write("a.md", "alpha")
    monkeypatch.setattr(places, "home", lambda _environ: None)
    monkeypatch.setattr(places, "SYSTEM_CONFIG", sandbox.root / "etc" / "config.yaml")
    result = sandbox.run(command, "docs")
    fix = "choose the file to write with --config FILE"
    assert (result.code, result.err) == (2, f"kbsync: cannot determine your home directory; {fix}\n")


@pytest.mark.parametrize("command", [["list"], ["status"], ["search", "alpha"], ["mcp"]])
@pytest.mark.parametrize("options", [[], ["--state-dir", "state"]])
def test_command_without_a_config_asks_for_one_if_no_home_directory_is_known(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, command: list[str], options: list[str]
) -> None:
    """`--state-dir` wouldn't help."""
    monkeypatch.setattr(places, "home", lambda _environ: None)
    monkeypatch.setattr(places, "SYSTEM_CONFIG", sandbox.root / "etc" / "config.yaml")
    result = sandbox.run(*command, *options)
    assert (result.code, "write a config with: kbsync init DIR" in result.err) == (2, True)
    assert "home directory" not in result.err


@long
@proves("add {}")
def test_fixes_of_add_keep_the_config_in_use(sandbox: Sandbox, second_folder: Path) -> None:
    other = sandbox.root / "my config.yaml"
    flags = ("--config", other)
    result = sandbox.run("add", second_folder, "--target", "zhipu", *flags)
    init = after(result.err, "write that config with: ")
    assert (paste(sandbox, f"{init} --base 4711").code, other.exists()) == (0, True)
    sandbox.config.replace(other)
    (sandbox.root / "docs 2" / "handbook").mkdir(parents=True)
    retry = after(sandbox.run("add", "docs 2/handbook", *flags).err, "choose another: ")
    assert paste(sandbox, retry, NAME="team").code == 0
    assert (other.read_text().count("team"), sandbox.config.exists()) == (1, False)


def test_unsafe_config_edit_is_refused_with_manual_instructions(
    sandbox: Sandbox, second_folder: Path
) -> None:
    sandbox.config.write_text(f'<<: {{mirrors: [{{name: a, folder: "{sandbox.docs}"}}]}}\n')
    result = sandbox.run("add", second_folder)
    assert result.code == 2
    assert (
        f"{sandbox.config} is written in a way that kbsync cannot edit safely; add these lines" in result.err
    )
    sandbox.config.write_text(
        f'mirrors:\n  - &a {{name: a, folder: "{sandbox.docs}"}}\n'
        f'  - {{<<: *a, name: b, folder: "{second_folder}"}}\n'
    )
    before = sandbox.config.read_bytes()
    result = sandbox.run("remove", "a", "--keep")
    assert (result.code, sandbox.config.read_bytes()) == (2, before)
    assert "cannot edit safely; remove the mirror a (line 2) yourself" in result.err


def test_lines_to_add_by_hand_are_valid(
    sandbox: Sandbox, second_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example if the config is a mount point, as in a container."""
    before = sandbox.config.read_text()

    def busy(_self: Path, _target: Path) -> None:
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", busy)
        result = sandbox.run("add", second_folder)
    assert (result.code, sandbox.config.read_text()) == (2, before)
    first_line, *lines = result.err.replace("kbsync: ", "").splitlines()
    assert first_line.endswith(
        "cannot be replaced (device or resource busy); add these lines to `mirrors:` yourself:"
    )
    sandbox.config.write_text("\n".join([before, *lines]))
    assert names(sandbox) == ["handbook", "more-notes"]


@long
def test_concurrent_adds_are_all_kept(sandbox: Sandbox, second_folder: Path) -> None:
    sandbox.config.unlink()
    folders = [sandbox.root / f"f{number}" for number in range(6)]
    for folder in folders:
        folder.mkdir()
    config = ("--config", sandbox.config)  # the machine may have a system-wide one
    processes = [sandbox.start("add", folder, *config) for folder in folders]
    outputs = [process.communicate(timeout=LONGEST) for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, outputs
    assert sorted(names(sandbox)) == sorted(folder.name for folder in folders)


@long
@pytest.mark.parametrize("config", ["new", "old"])
def test_killed_add_leaves_a_valid_config_and_can_be_repeated(
    sandbox: Sandbox, second_folder: Path, config: str
) -> None:
    before = sandbox.config.read_bytes()
    for step in range(1, 200):
        sandbox.config.write_bytes(before)
        if config == "new":
            sandbox.config.unlink()
        # The machine may have a system-wide config.
        if not dies(sandbox, step, "add", second_folder, "--config", sandbox.config):
            break
        if sandbox.config.exists():
            assert sandbox.config.read_bytes() == before or names(sandbox)[-1] == "more-notes"
        result = sandbox.run("add", second_folder)
        assert result.code == 0 or f"{second_folder} already belongs to mirror more-notes" in result.err
        assert names(sandbox)[-1] == "more-notes"
        assert os.listdir(sandbox.config.parent) == ["config.yaml"]
    assert step > 3


@long
def test_killed_add_takes_over_the_folder_mirror_when_repeated(sandbox: Sandbox, second_folder: Path) -> None:
    assert sandbox.run("--once").code == 0
    assert sandbox.run("--once", "--folder", second_folder).code == 0
    config, backup = sandbox.config.read_bytes(), sandbox.root / "backup"
    shutil.copytree(sandbox.state, backup)
    for step in range(1, 300):
        sandbox.config.write_bytes(config)
        shutil.rmtree(sandbox.state)
        shutil.copytree(backup, sandbox.state)
        if not dies(sandbox, step, "add", second_folder):
            break
        is_moved = not any(sandbox.state.glob("folders/*/state.db"))
        result = sandbox.run("add", second_folder)
        assert is_moved or (result.code, "nothing will be reindexed" in result.out) == (0, True), (
            step,
            result.out,
            result.err,
        )
        assert not any(sandbox.state.glob("folders/*/state.db"))
        assert sandbox.run("--once", "--json").json["uploaded"] == 0, step
        assert names(sandbox) == ["handbook", "more-notes"]
    assert step > 10


@long
def test_add_of_a_mirrored_folder_leaves_other_state_of_it(sandbox: Sandbox, second_folder: Path) -> None:
    assert sandbox.run("--once", "--folder", second_folder).code == 0
    trial = next(sandbox.state.glob("folders/*"))
    shutil.copytree(trial, sandbox.root / "trial")
    assert sandbox.run("add", second_folder).code == 0
    (second_folder / "b.md").write_text("beta changed")
    assert sandbox.run("--once").code == 0
    with closing(apsw.Connection(str(sandbox.root / "trial" / "state.db"))) as connection:
        connection.execute("UPDATE upload SET id = id + 1")  # of another state
    shutil.copytree(sandbox.root / "trial", trial)
    result = sandbox.run("add", second_folder)
    assert (result.code, "already belongs to mirror more-notes" in result.err) == (2, True)
    assert (trial / "state.db").exists()


@long
def test_folder_mirror_moves_into_a_config_with_other_mirrors(sandbox: Sandbox, second_folder: Path) -> None:
    assert sandbox.run("--once", "--folder", second_folder).code == 0
    result = sandbox.run("add", second_folder, "--name", "team")
    assert (result.code, "moved here; nothing will be reindexed" in result.out) == (0, True), result.err
    # It has its new name at once, for every command.
    team = sandbox.run("status", "--json", "--mirror", "team").json["mirrors"][0]
    assert (team["documents"]["ready"], team["last_pass"] is not None) == (1, True)
    history = sandbox.run("history", "--json", "--mirror", "team").json["events"]
    assert [event["event"] for event in history] == ["uploaded"]
    sandbox.run("pause", "team")
    assert "! team: paused since " in sandbox.run("status").out
    assert sandbox.run("resume").out.startswith("resumed team\n")
    second_pass = sandbox.run("--once", "--json").json
    assert second_pass["uploaded"] == 1
    assert sandbox.search("beta")[0] == "b.md"


@long
def test_folder_mirror_in_use_is_kept_with_the_command_to_delete_it(
    sandbox: Sandbox, second_folder: Path
) -> None:
    assert sandbox.run("--once").code == 0
    assert sandbox.run("--once", "--folder", second_folder).code == 0
    with lock.held(sandbox.state):
        result = sandbox.run("add", second_folder)
    assert result.code == 0, result.err
    forget = after(result.out, "to delete them: ")
    assert paste(sandbox, f"{forget} --yes").code == 0


def test_init_with_a_config_names_the_command_that_adds_a_folder(
    sandbox: Sandbox, second_folder: Path
) -> None:
    result = sandbox.run("init", second_folder.name)
    assert (result.code, result.out, names(sandbox)) == (2, "", ["handbook"])
    assert paste(sandbox, after(result.err, "or add the folder to this config: ")).code == 0
    assert names(sandbox) == ["handbook", "more-notes"]
    third = sandbox.root / "third"
    third.mkdir()
    result = sandbox.run("init", "--config", sandbox.config)
    command = after(result.err, "or add the folder to this config: ")
    assert command == f"kbsync add DIR --config {sandbox.config}"
    assert paste(sandbox, command, DIR=str(third)).code == 0
    # A service needs more settings than `add` writes.
    result = sandbox.run("init", second_folder, "--target", "zhipu")
    choice = "add the mirror to it, or choose another file with --config FILE"
    assert result.err == f"kbsync: {sandbox.config} already exists; {choice}\n"
    result = sandbox.run("init", second_folder, "--config", sandbox.root)
    assert result.err == f"kbsync: {sandbox.root} is a directory; choose a file with --config FILE\n"
    dangling = sandbox.root / "dangling.yaml"
    dangling.symlink_to(sandbox.root / "missing.yaml")
    result = sandbox.run("init", second_folder, "--config", dangling)
    # `add` can't edit a missing file either.
    assert "is a symbolic link to a file that does not exist; create that file, or" in result.err
    assert "kbsync add" not in result.err


def test_init_that_loses_a_race_names_the_command_that_adds_its_folder(
    sandbox: Sandbox, second_folder: Path, terminal: Begin
) -> None:
    sandbox.config.unlink()
    loser = terminal(sandbox, "init", columns=500)
    loser.until("Folder to mirror")
    assert sandbox.run("init", sandbox.docs).code == 0
    loser.type(f"{second_folder}\r\r")
    assert loser.end() == 2
    command = after(loser.output, "or add the folder to this config: ")
    assert paste(sandbox, command).code == 0
    assert names(sandbox) == ["docs", "more-notes"]


@long
@enumerated()
@pytest.mark.parametrize(("added", "verb"), [("docs/guides", "is inside"), (".", "contains")])
def test_added_folder_that_overlaps_a_mirror_is_reported(sandbox: Sandbox, added: str, verb: str) -> None:
    """The files would be listed twice, unless one of the mirrors leaves them out."""
    outer = sandbox.root / "outer"
    sandbox.docs = outer / "docs"
    sandbox.prepare({"a.md": "the albatross is here", "guides/b.md": "the bustard is here"})
    folder = outer / added
    result = sandbox.run("add", folder, "--name", "more")
    inner, name = (folder, "handbook") if verb == "is inside" else (sandbox.docs, "more")
    parent = sandbox.docs if verb == "is inside" else folder
    pattern = f"/{inner.relative_to(parent)}/"
    says = (
        f"{folder} {verb} {sandbox.docs} of mirror handbook, so searches list the files in {inner} twice; "
        f"to leave them out of {name}, add {pattern} to {parent / '.kbsyncignore'}"
    )
    assert (result.code, result.out.splitlines()[1]) == (0, says)
    assert sandbox.run("remove", "more", "--keep").code == 0
    (parent / ".kbsyncignore").write_text(f"{pattern}\n")
    result = sandbox.run("add", folder, "--name", "more")
    assert (result.code, "twice" in result.out) == (0, False)
    assert sandbox.run("--once").code == 0
    assert len(sandbox.search("bustard")) == 1
    assert sandbox.run("remove", "more", "--keep").code == 0
    (parent / ".kbsyncignore").unlink()
    assert sandbox.run("add", folder, "--name", "more", "--json").json["notes"] == [says]


def test_pattern_for_an_overlapping_folder_with_brackets_in_its_name_leaves_it_out(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "the albatross is here", "guides [old]/b.md": "the bustard is here"})
    folder = sandbox.docs / "guides [old]"
    result = sandbox.run("add", folder, "--name", "more")
    pattern = after(result.out, "add ").rpartition(f" to {sandbox.docs / '.kbsyncignore'}")[0]
    assert sandbox.run("remove", "more", "--keep").code == 0
    (sandbox.docs / ".kbsyncignore").write_text(f"{pattern}\n")
    result = sandbox.run("add", folder, "--name", "more")
    assert (result.code, "twice" in result.out) == (0, False)


@long
def test_moved_folder_of_a_mirror_is_not_added_as_another(sandbox: Sandbox, second_folder: Path) -> None:
    for number in range(20):
        sandbox.write(f"guides/{number}.md", f"page {number}")
    assert sandbox.run("--once").code == 0
    moved = sandbox.root / "MyDocs"
    sandbox.docs.rename(moved)
    (moved / "guides" / "7.md").write_text("edited after the move")
    before = sandbox.config.read_text()
    result = sandbox.run("add", moved)
    assert (result.code, result.out, sandbox.config.read_text()) == (2, "", before)
    assert f"{moved} has the files of mirror handbook, whose folder {sandbox.docs} is missing" in result.err
    assert f"correct `folder:` of handbook in {sandbox.config}, so that nothing is reindexed" in result.err
    # A folder with other files is no moved one, and neither is a copy while the mirror's folder is there.
    assert sandbox.run("add", second_folder).code == 0
    sandbox.config.write_text(before.replace(str(sandbox.docs), str(moved)))
    assert sandbox.run("--once", "--json").json["uploaded"] == 0
    shutil.copytree(moved, sandbox.docs)
    assert sandbox.run("add", sandbox.docs, "--name", "copy").code == 0


# -- remove ------------------------------------------------------------------------------------------------


@pytest.fixture
def both(sandbox: Sandbox, second_folder: Path) -> Sandbox:
    """Mirror two folders."""
    assert sandbox.run("add", second_folder, "--name", "more").code == 0
    assert sandbox.run("--once").code == 0
    return sandbox


def documents(sandbox: Sandbox) -> list[str]:
    result = sandbox.run("search", "beta", "--json", "--state-dir", sandbox.state, "--config", sandbox.config)
    return [hit["path"] for hit in result.json["hits"] if "beta" in hit["text"]]


@long
@proves("forget {} --delete-documents")
def test_documents_are_kept_and_can_be_deleted_later(both: Sandbox) -> None:
    result = both.run("remove", "more", "--keep")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"removed more from {both.config}; 1 document kept\n")
    assert names(both) == ["handbook"]
    delete = after(result.out, "to delete it: ")
    output = paste(both, f"{delete} --yes")
    assert (output.code, output.out) == (0, "more is forgotten; 1 document deleted\n")


@long
@proves("remove {} --delete")
@pytest.mark.parametrize("is_shared", [False, True], ids=["alone", "shared"])
def test_kept_documents_at_a_service_can_be_deleted_as_printed(zhipu: ZhipuSandbox, is_shared: bool) -> None:
    """Only the config has the service's key."""
    zhipu.write("a.md", "alpha")
    (zhipu.root / "more").mkdir()
    (zhipu.root / "more" / "b.md").write_text("beta")
    handbook = zhipu.aim("prefix: handbook/").read_text()
    more = handbook.partition("mirrors:\n")[2].replace("handbook", "more")
    more = more.replace(str(zhipu.docs), f"{zhipu.root}/more")
    if not is_shared:
        more = f"  - {{name: more, folder: {zhipu.root}/more, settle: 100ms}}\n"
    config = handbook + more
    zhipu.config.write_text(config)
    assert zhipu.run("--once").code == 0
    with lock.held(zhipu.state):
        running = zhipu.run("remove", "handbook", "--keep")
    assert "to delete it, stop kbsync, " in running.out
    zhipu.config.write_text(config)
    result = zhipu.run("remove", "handbook", "--keep")
    assert result.code == 0 and "; 1 document kept\n" in result.out
    if is_shared:
        deleting = after(result.out, "to delete it: ")
        assert paste(zhipu, f"{deleting} --yes").out == "handbook is forgotten; 1 document deleted\n"
    else:
        deleting = after(result.out, "to delete it, put handbook back into the config, then run: ")
        zhipu.config.write_text(config)
        assert "; 1 document deleted\n" in paste(zhipu, deleting).out
    assert len(zhipu.service.ours()) == is_shared
    assert names(zhipu) == ["more"]


@long
def test_mirror_taken_out_of_the_config_is_named_while_it_has_documents(
    both: Sandbox, second_folder: Path
) -> None:
    config = both.config.read_text()
    both.run("remove", "more", "--keep").check_success()
    line = after(both.run("status").out, "more: not in the config, but ")
    assert line.startswith(f"1 document is still in {both.state}/kb/more; to delete it: ")
    explained = both.run("explain", second_folder / "b.md")
    left = f"The mirror more of {second_folder} is not in the config, but 1 document is still in"
    assert (explained.code, left in explained.out) == (2, True)
    # A mirror that was renamed, or that is back, is in the config.
    both.config.write_text(config.replace("name: more", "name: other"))
    assert "not in the config" not in both.run("status").out
    both.config.write_text(config)
    assert "not in the config" not in both.run("status").out
    both.run("remove", "more", "--keep").check_success()
    assert "not in the config" not in both.run("status", "--mirror", "handbook").out
    assert paste(both, f"{after(both.run('status').out, 'to delete it: ')} --yes").code == 0
    assert "not in the config" not in both.run("status").out
    assert "no mirrored folder contains it" in both.run("explain", second_folder / "b.md").out


@long
def test_removed_and_added_again_nothing_is_indexed_again(both: Sandbox, second_folder: Path) -> None:
    assert both.run("remove", "more", "--keep").code == 0
    assert both.run("--once", "--json").json["deleted"] == 0
    assert both.run("add", second_folder, "--name", "more").code == 0
    assert both.run("--once", "--json").json["uploaded"] == 0
    assert documents(both) == ["b.md"]


@long
def test_removed_again_it_is_not_in_the_config_and_its_documents_can_be_deleted(both: Sandbox) -> None:
    first, second = both.run("remove", "more", "--keep"), both.run("remove", "more", "--keep")
    assert (first.code, second.code) == (0, 0)
    line, hint = first.out.splitlines()[:2]
    assert line == f"removed more from {both.config}; 1 document kept"
    assert second.out.splitlines() == [f"more isn't in {both.config}; 1 document kept", hint]
    deleting = after(second.out, "to delete it: ")
    assert paste(both, f"{deleting} --yes").out == "more is forgotten; 1 document deleted\n"


@long
@pytest.mark.parametrize("is_kept_first", [False, True], ids=["at once", "after all"])
def test_documents_are_deleted(both: Sandbox, second_folder: Path, is_kept_first: bool) -> None:
    if is_kept_first:
        assert both.run("remove", "more", "--keep").code == 0
    completed = both.run("remove", "more", "--delete")
    result = f"more isn't in {both.config}" if is_kept_first else f"removed more from {both.config}"
    assert (completed.code, completed.out) == (0, f"{result}; 1 document deleted\n")
    assert "1 document in" in completed.err
    assert names(both) == ["handbook"]
    assert (second_folder / "b.md").read_text() == "beta"
    indexes = [file for file in both.state.rglob("*") if file.is_file() and b"beta" in file.read_bytes()]
    assert indexes == []
    repeated = both.run("remove", "more", "--delete")
    assert (repeated.code, "there is no mirror 'more'; known mirrors: handbook" in repeated.err) == (2, True)


@long
@pytest.mark.parametrize(("typed", "remaining"), [("keep", 1), ("", 1), ("what", 1), ("delete", 0)])
def test_at_a_terminal_it_asks(both: Sandbox, terminal: Begin, typed: str, remaining: int) -> None:
    session = terminal(both, "remove", "more", columns=200)
    session.until("more has 1 document in its knowledge base; keep or delete them? [keep]: ")
    session.type(f"{typed}\n")
    if typed == "what":
        session.until("type keep or delete")
        session.type("keep\n")
    assert session.end() == 0
    assert names(both) == ["handbook"]
    assert both.run("remove", "more", "--delete").code == (0 if remaining else 2)


@long
@pytest.mark.parametrize(("typed", "code"), [("\x04", 2), ("", 130)], ids=["end of input", "interrupt"])
def test_without_an_answer_nothing_is_removed(both: Sandbox, terminal: Begin, typed: str, code: int) -> None:
    session = terminal(both, "remove", "more", columns=200)
    session.until("keep or delete them? [keep]: ")
    if typed:
        session.type(typed)
    else:
        session.process.send_signal(signal.SIGINT)
    assert session.end() == code
    assert (names(both), documents(both)) == (["handbook", "more"], ["b.md"])


@long
def test_without_a_terminal_an_option_must_decide_about_documents(both: Sandbox) -> None:
    before = both.config.read_bytes()
    result = both.run("remove", "more")
    assert (result.code, result.out) == (2, "")
    assert result.err == "kbsync: not a terminal; to remove more, pass --keep or --delete\n"
    assert both.run("remove", "more", "--keep", "--delete").code == 2
    assert both.run("remove", "mroe", "--keep").err.endswith(
        "did you mean more? Known mirrors: handbook, more\n"
    )
    assert both.config.read_bytes() == before


@long
@proves("forget {}")
def test_the_only_mirror_stays(sandbox: Sandbox, second_folder: Path) -> None:
    assert sandbox.run("--once").code == 0
    before = sandbox.config.read_bytes()
    result = sandbox.run("remove", "handbook", "--delete")
    assert (result.code, sandbox.config.read_bytes()) == (2, before)
    ended = paste(sandbox, f"{after(result.err, 'forget this mirror with: ')} --yes")
    assert ended.code == 0
    assert paste(sandbox, after(result.err, "mirror the folder again: ")).code == 0
    assert not sandbox.config.exists() and "; 1 document deleted" in ended.out
    assert sandbox.run("--once", "--folder", second_folder).code == 0
    result = sandbox.run("remove", "more-notes", "--keep", "--folder", str(second_folder))
    assert result.code == 2
    assert paste(sandbox, f"{after(result.err, 'to forget it: ')} --yes").code == 0


@proves("forget {} --delete-documents")
@pytest.mark.parametrize(
    "obstacle",
    [
        pytest.param(
            "foreign group",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to any group"),
        ),
        "mount point",
    ],
)
def test_no_document_is_deleted_if_the_config_cannot_be_replaced(
    both: Sandbox, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    before = both.config.read_bytes()

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patch:
        if obstacle == "foreign group":
            os.chown(both.config, -1, 4712)
            patch.setattr(os, "fchown", refuse)
        else:  # as in a container
            mount = Mount(9999, str(both.config), "ext4")
            patch.setattr(file_systems, "mounts", lambda: (mount,))
        result = both.run("remove", "more", "--delete")
    assert (result.code, both.config.read_bytes(), documents(both)) == (2, before, ["b.md"])
    assert "cannot be replaced" in result.err
    assert [path.name for path in both.config.parent.iterdir()] == [both.config.name]
    assert paste(both, f"{after(result.err, 'to delete the documents, run: ')} --yes").code == 0
    assert documents(both) == []
    assert "kbsync: then remove the mirror more (line" in result.err


@long
def test_config_can_be_edited_where_proc_is_missing(both: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_systems, "MOUNTINFO", both.root / "no" / "mountinfo")
    assert both.run("remove", "more", "--keep").code == 0
    assert names(both) == ["handbook"]


@long
def test_documents_are_not_deleted_while_a_running_kbsync_does_nothing(
    both: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remove, "MAX_WAIT_FOR_DAEMON", 0.3)
    before = both.config.read_bytes()
    with lock.held(both.state):
        result = both.run("remove", "more", "--delete")
    assert (result.code, both.config.read_bytes()) == (4, before)
    assert "; stop it, run this command again, and then start it again\n" in result.err
    assert "will be deleted" not in result.err
    assert documents(both) == ["b.md"]


@long
def test_where_a_document_cannot_be_deleted_the_mirror_stays_in_the_config(zhipu: ZhipuSandbox) -> None:
    zhipu.write("a.md", "alpha")
    (zhipu.root / "more").mkdir()
    assert zhipu.run("add", "more").code == 0
    assert zhipu.run("--once").code == 0
    zhipu.service.turn(key_revoked=True)
    assert zhipu.run("remove", "handbook", "--delete").code == 3
    assert names_with_key(zhipu) == ["handbook", "more"]
    zhipu.service.turn(key_revoked=False)
    assert zhipu.run("remove", "handbook", "--delete").code == 0
    assert (names_with_key(zhipu), zhipu.service.ours()) == (["more"], [])


def names_with_key(zhipu: ZhipuSandbox) -> list[str]:
    return [mirror["name"] for mirror in zhipu.run("list", "--json").json["mirrors"]]


@long
@pytest.mark.parametrize("fate", ["--keep", "--delete"])
def test_killed_at_any_step_a_second_remove_ends_it(sandbox: Sandbox, second_folder: Path, fate: str) -> None:
    for step in range(1, 200):
        if "more" not in names(sandbox):
            assert sandbox.run("add", second_folder, "--name", "more").code == 0
        assert sandbox.run("--once").code == 0
        was_killed = dies(sandbox, step, "remove", "more", fate)
        remaining = names(sandbox)
        assert remaining in (["handbook", "more"], ["handbook"])
        if fate == "--delete" and remaining == ["handbook"]:
            # The last step: no documents are left by then.
            assert sandbox.run("forget", "more", "--delete-documents", "--yes").code == 2
        result = sandbox.run("remove", "more", fate)
        assert result.code == 0 or "there is no mirror 'more'" in result.err
        assert names(sandbox) == ["handbook"]
        assert os.listdir(sandbox.config.parent) == ["config.yaml"]
        if not was_killed:
            break
    assert step > 5


@long
def test_folder_is_added_while_kbsync_runs_with_its_state_next_to_the_config(
    sandbox: Sandbox, second_folder: Path
) -> None:
    sandbox.config.write_text(f"state_dir: .\n{sandbox.config.read_text()}")
    with lock.held(sandbox.config.parent, config=sandbox.config):
        assert sandbox.run("add", "More Notes").code == 0
    daemon = sandbox.watch(until="daemon.watching")
    assert sandbox.run("remove", "more-notes", "--keep").code == 0
    daemon.wait_for_event("config.read")
    assert daemon.end() == 0


@long
def test_running_kbsync_with_another_config_is_not_asked_to_reload(
    sandbox: Sandbox, second_folder: Path
) -> None:
    daemon = sandbox.watch(until="daemon.watching")
    other = ("--config", sandbox.root / "other.yaml")
    for command in (("init", second_folder), ("add", sandbox.docs), ("remove", "docs", "--keep")):
        result = sandbox.run(*command, *other).check_success()
        reason = f"the running kbsync (pid {daemon.process.pid}) uses another config"
        assert f"{reason}; stop it before you start kbsync with this one" in result.out
    link = sandbox.root / "link.yaml"
    link.symlink_to(sandbox.config)
    assert "will reload" in sandbox.run("add", second_folder, "--config", link).check_success().out
    daemon.wait_for_event("config.read")
    assert daemon.log.read_text().count("config.read") == 1
    assert daemon.end() == 0


@pytest.mark.parametrize("name", ["more", "handbook"])
def test_folder_that_became_a_file_does_not_prevent_adding_and_removing_folders(
    both: Sandbox, second_folder: Path, name: str
) -> None:
    """Neither that mirror itself nor another one."""
    second_folder.rename(both.root / "away")
    second_folder.write_text("a file")
    other = both.root / "Other"
    other.mkdir()
    both.run("add", other).check_success()
    assert names(both) == ["handbook", "more", "other"]
    both.run("remove", name, "--keep").check_success()
    assert names(both) == [remaining for remaining in ("handbook", "more", "other") if remaining != name]


# -- a running kbsync --------------------------------------------------------------------------------------


@long
@pytest.mark.parametrize("is_at_terminal", [False, True])
def test_running_kbsync_applies_added_and_removed_folders(
    sandbox: Sandbox, second_folder: Path, terminal: Begin, is_at_terminal: bool
) -> None:
    if is_at_terminal:
        # SIGHUP would end it there.
        screen = terminal(sandbox, columns=200)
        screen.until("press Ctrl-C to stop")
    else:
        daemon = sandbox.watch()
        daemon.wait_for_event("daemon.watching")
    result = sandbox.run("add", second_folder)
    assert (result.code, result.out.splitlines()[1:]) == (
        0,
        ["the running kbsync will reload the config now"],
    )
    eventually(lambda: "b.md" in (sandbox.search("beta") if sandbox.run("search", "beta").code == 0 else []))
    assert sandbox.run("remove", "more-notes", "--keep").out.endswith("reload the config now\n")
    if is_at_terminal:
        screen.until("config reloaded: 2 mirrors")
        screen.until("config reloaded: 1 mirror")
    else:
        assert daemon.wait_for_event("config.read", mirrors=1)["removed"] == 1
        assert daemon.end() == 0


@long
@pytest.mark.parametrize("command", ["add", "init"])
def test_running_kbsync_reloads_a_config_written_again(
    sandbox: Sandbox, second_folder: Path, command: str
) -> None:
    daemon = sandbox.watch()
    daemon.wait_for_event("daemon.watching")
    sandbox.config.unlink()
    result = sandbox.run(command, second_folder)
    assert (result.code, result.out.splitlines()[-1]) == (0, "the running kbsync will reload the config now")
    daemon.wait_for_event("config.read", added=1)
    assert daemon.end() == 0


@long
def test_running_kbsync_reloads_a_config_with_a_folder_that_became_a_file(
    both: Sandbox, second_folder: Path
) -> None:
    daemon = both.watch()
    daemon.wait_for_event("daemon.watching")
    second_folder.rename(both.root / "away")
    second_folder.write_text("a file")
    daemon.wait_for_event("mirror.halted", mirror="more")
    other = both.root / "Other"
    other.mkdir()
    (other / "c.md").write_text("gamma")
    both.run("add", other).check_success()
    daemon.wait_for_event("document.ready", mirror="other")
    (both.root / "file").write_text("a file")
    both.config.write_text(both.config.read_text().replace(str(other), str(both.root / "file")))
    daemon.process.send_signal(signal.SIGHUP)
    assert "file is a file; choose a folder" in daemon.wait_for_event("config.refused")["reason"]
    assert daemon.end() == 0


@long
def test_added_folder_is_mirrored_although_the_command_was_killed_before_reporting_it(
    sandbox: Sandbox, second_folder: Path
) -> None:
    assert sandbox.run("--once").code == 0
    assert sandbox.run("add", second_folder).code == 0
    daemon = sandbox.watch()
    daemon.wait_for_event("daemon.watching")
    sandbox.config.write_text(sandbox.config.read_text().replace("More Notes", "docs/../More Notes"))
    assert sandbox.run("add", second_folder).code == 2
    daemon.wait_for_event("config.read")
    assert daemon.end() == 0


# -- list --------------------------------------------------------------------------------------------------


def test_the_list_has_name_folder_target_and_what_is_wrong(sandbox: Sandbox, second_folder: Path) -> None:
    assert sandbox.run("add", second_folder).code == 0
    plain = sandbox.run("list").out.splitlines()
    assert plain[0].split() == ["NAME", "FOLDER", "TARGET"]
    assert plain[1].split() == ["handbook", str(sandbox.docs), "local"]
    assert plain[2].startswith("more-notes")
    before = sandbox.files()
    second_folder.rename(sandbox.root / "away")
    assert sandbox.run("list").out.splitlines()[2].split()[-1] == "missing"
    assert sandbox.run("list", "--json").json["mirrors"][1]["problem"] == "missing"
    assert sandbox.run("list", "--mirror", "handbook").out.count("\n") == 2
    (sandbox.root / "away").rename(second_folder)
    assert sandbox.files() == before


# -- a mirror renamed in the config ------------------------------------------------------------------------


@pytest.fixture
def renamed(both: Sandbox) -> Sandbox:
    """A mirror with a held deletion, renamed in the config since the last pass."""
    for number in range(8):
        (both.root / "More Notes" / f"{number}.md").write_text(f"number {number}")
    assert both.run("--once").code == 0
    for number in range(7):
        (both.root / "More Notes" / f"{number}.md").unlink()
    assert both.run("--once").code == 3
    both.config.write_text(both.config.read_text().replace('name: "more"', "name: new"))
    return both


@long
def test_every_command_knows_a_renamed_mirror_before_the_next_pass(
    renamed: Sandbox, second_folder: Path
) -> None:
    [_, status] = renamed.run("status", "--json").json["mirrors"]
    assert (status["name"], status["documents"]["ready"], status["documents"]["held"]) == ("new", 2, 7)
    assert status["last_pass"] is not None and status["halt"]["cure"] == "kbsync approve new"
    [_, plan] = renamed.run("plan", "--json").json["mirrors"]
    assert (plan["upload"], len(plan["held"]), plan["unchanged"]) == ([], 7, 2)
    assert renamed.run("verify", "--mirror", "new").out == "new: all is well\n"
    assert renamed.search("beta", "--mirror", "new")[0] == "b.md"
    explained = renamed.run("explain", second_folder / "b.md", "--text")
    assert explained.code == 0 and "beta" in explained.out
    events = renamed.run("history", "--json").json["events"]
    assert {event["mirror"] for event in events} == {"handbook", "new"}

    approved = renamed.run("approve", "new", "--yes")
    assert approved.code == 0 and "new: delete 7 documents:" in approved.out
    end = renamed.once()
    assert (end["uploaded"], end["deleted"]) == (0, 7)
    assert documents(renamed) == ["b.md"]


def test_state_whose_tables_are_being_created_has_no_mirror_yet(sandbox: Sandbox) -> None:
    sandbox.configure()
    sandbox.state.mkdir(parents=True, exist_ok=True)
    (sandbox.state / "state.db").touch()
    [mirror] = sandbox.run("status", "--json").json["mirrors"]
    assert (mirror["name"], mirror["last_pass"]) == ("handbook", None)


@long
def test_approval_of_a_renamed_mirror_reaches_a_kbsync_with_the_old_config(renamed: Sandbox) -> None:
    renamed.config.write_text(renamed.config.read_text().replace("name: new", "name: more"))
    daemon = renamed.watch()
    daemon.wait_for_event("daemon.watching")
    renamed.config.write_text(renamed.config.read_text().replace("name: more", "name: new"))
    assert renamed.run("approve", "new", "--yes").code == 0
    eventually(lambda: renamed.run("status", "--json").json["mirrors"][1]["documents"]["held"] == 0)
    assert daemon.end() == 0


@long
@pytest.mark.parametrize("fate", ["--keep", "--delete"])
def test_documents_of_a_renamed_mirror_can_be_deleted(renamed: Sandbox, fate: str) -> None:
    result = renamed.run("remove", "new", fate)
    assert result.code == 0, result.err
    if fate == "--keep":
        assert paste(renamed, f"{after(result.out, 'to delete them: ')} --yes").code == 0
    files = [file for file in renamed.state.rglob("*") if file.is_file() and b"beta" in file.read_bytes()]
    assert files == []
