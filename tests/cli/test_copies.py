"""Tests that a folder tried with `--folder` becomes a mirror of a config without a second copy of its
text.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import pytest

from kbsync.config.places import folder_state_dir
from kbsync.config.reader import load
from kbsync.state import lock
from tests.cli.cures import proves
from tests.cli.knowledge_bases import KnowledgeBase, service
from tests.cli.pasting import after, paste
from tests.cli.sandbox import RunResult, Sandbox, words_of
from tests.share import enumerated, long

SECRET = "zqsecret"


@pytest.fixture
def folder_mirror(sandbox: Sandbox) -> Sandbox:
    """Mirror a folder with `--folder`."""
    for number in range(8):
        sandbox.write(f"{number}.md", f"document {number}")
    sandbox.write("secret.md", f"the {SECRET} of the sandbox")
    sandbox.write("sub/deep/secret.md", f"another {SECRET}")
    assert sandbox.run("--once", "--folder", "docs").code == 0
    return sandbox


def trial(sandbox: Sandbox) -> Path:
    return folder_state_dir(sandbox.docs, sandbox.state)


def traces(sandbox: Sandbox) -> list[str]:
    files = [file for file in sandbox.state.rglob("*") if file.is_file()]
    return [str(file) for file in files if SECRET.encode() in file.read_bytes()]


def copies(sandbox: Sandbox, *options: str) -> list[dict[str, Any]]:
    result = sandbox.run("doctor", "--json", *options)
    return [
        check for check in result.json["checks"] if check["name"] == "copies" and check["result"] == "warning"
    ]


@enumerated()
@pytest.mark.parametrize(
    ("folder", "options", "env"),
    [
        ("docs", [], {}),
        ("docs", ["--state-dir", "a state"], {}),
        ("docs", [], {"STATE_DIRECTORY": "given"}),
        ("way", [], {}),
    ],
    ids=["usual", "named", "environment", "symlink"],
)
def test_init_takes_over_a_folder_mirrored_with_folder_option(
    folder_mirror: Sandbox, folder: str, options: list[str], env: dict[str, str]
) -> None:
    (folder_mirror.root / "way").symlink_to("docs")
    env = {name: str(folder_mirror.root / value) for name, value in env.items()}
    result = folder_mirror.run("init", folder, *options, env=env)
    assert (result.code, "moved here" in result.out, trial(folder_mirror).exists()) == (0, True, False)
    results = folder_mirror.run("search", SECRET, "--json").json["hits"]
    assert {hit["path"] for hit in results} >= {"secret.md", "sub/deep/secret.md"}
    second_pass = folder_mirror.run("--once", "--json").json
    assert (second_pass["uploaded"], second_pass["mirrors"][0]["documents"]["ready"]) == (0, 10)


@long
def test_no_second_copy_is_left_after_a_takeover(folder_mirror: Sandbox) -> None:
    assert folder_mirror.run("init", "docs").code == 0
    (folder_mirror.docs / "secret.md").unlink()
    shutil.rmtree(folder_mirror.docs / "sub")
    assert folder_mirror.run("--once", "--json").json["deleted"] == 2
    assert (traces(folder_mirror), copies(folder_mirror)) == ([], [])
    assert [str(file.relative_to(folder_mirror.state)) for file in folder_mirror.state.rglob("index.db")] == [
        "kb/docs/index.db"
    ]


@long
@pytest.mark.parametrize("locked_state", [trial, lambda sandbox: sandbox.state], ids=["from", "to"])
def test_init_changes_nothing_while_another_kbsync_uses_source_or_destination(
    folder_mirror: Sandbox, locked_state: Callable[[Sandbox], Path]
) -> None:
    with lock.held(locked_state(folder_mirror)):
        result = folder_mirror.run("init", "docs")
    assert (result.code, result.out) == (4, "")
    assert "stop it first" in result.err
    assert not folder_mirror.config.exists()
    assert folder_mirror.run("search", SECRET, "--folder", "docs", "--files").out.startswith(
        str(folder_mirror.docs)
    )
    assert "moved here" in folder_mirror.run("init", "docs").out


@long
def test_init_for_a_service_keeps_the_copy_and_prints_the_command_that_deletes_it(
    folder_mirror: Sandbox,
) -> None:
    result = folder_mirror.run("init", "docs", "--target", "zhipu", "--base", "1").check_success()
    [line] = [line for line in result.out.splitlines() if "to delete them: " in line]
    end = line.partition("to delete them: ")[2]
    assert folder_mirror.run(*words_of(end)).code == 2  # there is no terminal to ask on
    assert paste(folder_mirror, f"{end} --yes").code == 0
    assert traces(folder_mirror) == []


@dataclass(frozen=True)
class ServiceMirror:
    """A folder mirrored with `--folder` to a service, without its `private/`. `env` has the key."""

    sandbox: Sandbox
    base: KnowledgeBase
    env: dict[str, str]

    def run(self, *words: str | Path) -> RunResult:
        return self.sandbox.run(*words, env=self.env)

    def check_unchanged(self) -> None:
        """Check that a pass changes nothing, and that the mirror still serves the documents."""
        second_pass = self.run("--once", "--json").json
        kinds = ("uploaded", "replaced", "renamed", "deleted", "held", "failed")
        assert [second_pass[kind] for kind in kinds] == [0] * len(kinds)
        [mirror] = second_pass["mirrors"]
        assert (mirror["target"], mirror["documents"]["ready"]) == (self.base.target["type"], 8)
        assert len(self.base.documents("")) == 8


@pytest.fixture(params=["zhipu", "openwebui"])
def service_mirror(request: pytest.FixtureRequest, sandbox: Sandbox) -> Iterator[ServiceMirror]:
    for number in range(8):
        sandbox.write(f"{number}.md", f"document {number}")
    sandbox.write("private/secret.md", SECRET)
    with service(request.param) as base:
        target = base.target
        mirror = ServiceMirror(sandbox, base, {f"{request.param.upper()}_API_KEY": target["api_key"]})
        url = ("--target", target["type"], "--url", target["base_url"], "--base", target["knowledge_id"])
        assert mirror.run("--once", "--folder", "docs", "--exclude", "private/", *url).code == 0
        assert len(base.documents("")) == 8
        yield mirror


@long
def test_init_takes_over_the_state_of_documents_in_the_same_base(service_mirror: ServiceMirror) -> None:
    target = service_mirror.base.target
    url = ("--base-url", target["base_url"], "--base", target["knowledge_id"])
    result = service_mirror.run("init", "docs", "--target", target["type"], *url)
    assert (result.code, "moved here; nothing will be reindexed" in result.out, "forget" in result.out) == (
        0,
        True,
        False,
    )
    assert not trial(service_mirror.sandbox).exists()
    service_mirror.check_unchanged()


@long
@pytest.mark.parametrize("command", ["init", "add"])
def test_new_config_keeps_the_options_remembered_for_the_folder(
    service_mirror: ServiceMirror, command: str
) -> None:
    result = service_mirror.run(command, "docs")
    assert (result.code, "moved here; nothing will be reindexed" in result.out) == (0, True), result.err
    assert "8 documents" in result.out  # as `init` counts them, without the excluded one
    assert service_mirror.base.target["api_key"] not in service_mirror.sandbox.config.read_text()
    service_mirror.check_unchanged()


@long
def test_add_keeps_the_options_remembered_for_the_folder(service_mirror: ServiceMirror) -> None:
    sandbox = service_mirror.sandbox
    other = sandbox.add_folder("other")
    assert service_mirror.run("init", other).code == 0
    result = service_mirror.run("add", "docs", "--json")
    assert (result.code, result.json["target"]) == (0, service_mirror.base.target["type"]), result.err
    assert service_mirror.base.target["api_key"] not in sandbox.config.read_text()
    assert service_mirror.run("remove", "other", "--keep").code == 0
    service_mirror.check_unchanged()


@long
@pytest.mark.parametrize("command", ["init", "add"])
def test_documents_of_another_target_are_kept(service_mirror: ServiceMirror, command: str) -> None:
    result = service_mirror.run(command, "docs", "--target", "local")
    assert result.code == 0 and "docs uses a different knowledge base" in result.out
    end = after(result.out, "to delete it: ")
    assert service_mirror.run("--once", "--json").json["uploaded"] == 8  # the patterns apply there, too
    assert paste(service_mirror.sandbox, f"{end} --yes").code == 0
    assert len(service_mirror.base.documents("")) == 8


@long
def test_printed_command_deletes_no_document_of_a_service(service_mirror: ServiceMirror) -> None:
    """While another kbsync uses the config's state, the earlier one can't move into it."""
    sandbox = service_mirror.sandbox
    other = sandbox.add_folder("other")
    assert service_mirror.run("init", other).code == 0
    assert service_mirror.run("--once").code == 0
    with lock.held(sandbox.state):
        result = service_mirror.run("add", "docs")
    assert result.code == 0
    assert service_mirror.run("--once", "--json").json["uploaded"] == 0
    assert paste(sandbox, f"{after(result.out, 'to delete it: ')} --yes", env=service_mirror.env).code == 0
    assert len(service_mirror.base.documents("")) == 8
    assert service_mirror.run("verify").code == 0


@pytest.mark.parametrize("command", ["init", "add"])
def test_patterns_with_references_and_quotes_are_kept(sandbox: Sandbox, command: str) -> None:
    patterns = ("a${HOME}", 'say "b"', "!c\\ d")
    sandbox.write("a.md", "alpha")
    assert (
        sandbox.run("--once", "--folder", "docs", *(f"--exclude={pattern}" for pattern in patterns)).code == 0
    )
    if command == "add":
        other = sandbox.add_folder("other")
        assert sandbox.run("init", other).code == 0
    assert sandbox.run(command, "docs").code == 0
    assert load(sandbox.config, {"HOME": str(sandbox.home)}).mirrors[-1].exclude == patterns


@long
@proves("forget {} --delete-documents")
def test_doctor_reports_a_copy_of_a_configured_mirror_with_the_command_that_removes_it(
    folder_mirror: Sandbox,
) -> None:
    folder_mirror.configure()
    [check] = copies(folder_mirror)
    assert (
        f"{folder_mirror.docs} is also mirrored with --folder: 10 documents in {trial(folder_mirror)}"
        in check["detail"]
    )
    assert check["cure"] == ""  # the config has mirrored nothing yet
    assert folder_mirror.run("--once").code == 0
    [check] = copies(folder_mirror)
    assert paste(folder_mirror, check["cure"]).code == 2
    assert paste(folder_mirror, f"{check['cure']} --yes").code == 0
    assert copies(folder_mirror) == []
    (folder_mirror.docs / "secret.md").unlink()
    shutil.rmtree(folder_mirror.docs / "sub")
    assert folder_mirror.run("--once").code == 0
    assert traces(folder_mirror) == []


@long
def test_doctor_never_suggests_removing_a_mirror_with_held_deletions(folder_mirror: Sandbox) -> None:
    for file in folder_mirror.docs.glob("*.md"):
        file.unlink()
    assert folder_mirror.run("--once", "--folder", "docs").code == 3
    for options in (("--folder", "docs", "--state-dir", "other"), ()):
        folder_mirror.configure()
        folder_mirror.write("new.md", "new")
        assert folder_mirror.run("--once", *options).code == 0
        [check] = copies(folder_mirror, *options)
        assert "10 documents in" in check["detail"]
        assert "9 deletions waiting for approval" in check["detail"]
        assert check["cure"] == ""
        folder_mirror.config.unlink()
    assert folder_mirror.run("search", SECRET, "--folder", "docs", "--files").out.startswith(
        str(folder_mirror.docs)
    )


@long
def test_doctor_never_suggests_removing_a_mirror_whose_disk_may_be_unmounted(sandbox: Sandbox) -> None:
    folder = sandbox.root / "disk" / "notes"
    folder.mkdir(parents=True)
    (folder / "a.md").write_text("alpha")
    assert sandbox.run("--once", "--folder", folder).code == 0
    folder.parent.rename(sandbox.root / "unmounted")
    sandbox.configure()
    [check] = copies(sandbox)
    assert f"{folder} does not exist: 1 document in" in check["detail"]
    assert check["cure"] == ""
    folder.parent.mkdir()
    [check] = copies(sandbox)
    assert "forget notes --delete-documents" in check["cure"]
    # A mount point usually exists without its disk; a missing one proves nothing either.
    with closing(apsw.Connection(str(folder_state_dir(folder, sandbox.state) / "state.db"))) as state:
        state.execute("UPDATE mirror SET root_is_mount = 1")
    [check] = copies(sandbox)
    assert check["cure"] == ""


@long
def test_doctor_reports_the_copy_of_a_mirror_removed_from_the_config(folder_mirror: Sandbox) -> None:
    """doctor offers to remove it once its mirror has ended, after asking."""
    folder_mirror.run("init", "docs")
    folder_mirror.run("--once")
    folder_mirror.config.write_text(
        folder_mirror.config.read_text().replace('name: "docs"', 'name: "new"\n    prefix: "x"')
    )
    folder_mirror.config.write_text(
        folder_mirror.config.read_text().replace(f"{folder_mirror.docs}", f"{folder_mirror.root}/elsewhere")
    )
    (folder_mirror.root / "elsewhere").mkdir()
    assert folder_mirror.run("--once").code == 0
    [check] = copies(folder_mirror)
    assert "kb/docs" in check["detail"]
    assert check["cure"] == ""
    command = words_of(check["detail"].partition("delete it with: ")[2])
    assert folder_mirror.run(*command).code == 2  # there is no terminal to ask on
    assert folder_mirror.run(*command, "--yes").code == 0
    assert copies(folder_mirror) == []
    assert traces(folder_mirror) == []


def delete_folder(folder_mirror: Sandbox) -> str:
    folder_mirror.docs.rename(folder_mirror.root / "away")
    return f"{folder_mirror.docs} does not exist: 10 documents in {trial(folder_mirror)}"


def forget_mirror(folder_mirror: Sandbox) -> str:
    assert folder_mirror.run("forget", "docs", "--folder", "docs", "--yes").code == 0
    return "10 documents of the forgotten mirror docs remain in"


@long
@pytest.mark.parametrize("abandon", [delete_folder, forget_mirror])
def test_doctor_reports_an_abandoned_copy(folder_mirror: Sandbox, abandon: Callable[[Sandbox], str]) -> None:
    message = abandon(folder_mirror)
    folder_mirror.add_folder("other")
    assert folder_mirror.run("init", "other").code == 0
    [check] = copies(folder_mirror)
    assert message in check["detail"]
    assert paste(folder_mirror, f"{check['cure']} --yes").code == 0
    assert copies(folder_mirror) == [] and traces(folder_mirror) == []


@long
def test_doctor_reports_a_base_missing_from_the_state(folder_mirror: Sandbox) -> None:
    folder_mirror.run("init", "docs")
    assert folder_mirror.run("--once").code == 0
    for file in folder_mirror.state.glob("state.db*"):
        file.unlink()
    other = beside(folder_mirror, "other")
    assert folder_mirror.run("--once", *other).code == 0
    [check] = copies(folder_mirror, *other)
    assert "no mirror in the config or the state uses" in check["detail"]
    assert paste(folder_mirror, f"{check['cure']} --yes").code == 0
    assert copies(folder_mirror, *other) == [] and traces(folder_mirror) == []
    assert folder_mirror.run("search", "other", "--json", *other).json["hits"]


@long
@proves("state discard")
def test_doctor_reports_damaged_files_that_were_set_aside(folder_mirror: Sandbox) -> None:
    aside = trial(folder_mirror) / "kb" / "docs" / "index.db.damaged-1"
    for name in (aside, aside.with_name(f"{aside.name}-wal")):
        name.write_bytes(f"some {SECRET}".encode())
    [check] = copies(folder_mirror, "--folder", "docs")
    assert str(aside) in check["detail"]
    output = folder_mirror.run(*words_of(check["cure"]))
    assert (output.code, str(aside) in output.err, aside.exists()) == (2, True, True)
    assert paste(folder_mirror, f"{check['cure']} --yes").out == "1 file deleted\n"
    assert list(aside.parent.glob("*damaged*")) == []
    assert copies(folder_mirror, "--folder", "docs") == []
    assert paste(folder_mirror, f"{check['cure']} --yes").out == "nothing was set aside\n"


# -- copies that doctor offers to remove ---------------------------------------------------------------------


def beside(sandbox: Sandbox, name: str) -> tuple[str, ...]:
    """Write another config for another folder, with the usual state directory, and return its options."""
    (sandbox.root / name).mkdir()
    (sandbox.root / name / "a.md").write_text(f"of {name}")
    file = sandbox.root / f"{name}.yaml"
    assert sandbox.run("init", name, "--config", file).code == 0
    return ("--config", str(file))


def another_folder(folder_mirror: Sandbox) -> tuple[str, ...]:
    """The folder still exists, and is searched with `--folder`."""
    return beside(folder_mirror, "other")


def served_by_folder(_folder_mirror: Sandbox) -> tuple[str, ...]:
    return ("--folder", "docs")


def reached_by_a_symlink(folder_mirror: Sandbox) -> tuple[str, ...]:
    real, link = folder_mirror.root / "real", folder_mirror.root / "link"
    real.mkdir()
    link.symlink_to(real)
    assert folder_mirror.run("init", "docs").code == 0
    shutil.move(folder_mirror.state / "kb", real / "kb")
    shutil.move(folder_mirror.state / "state.db", real / "state.db")
    text = folder_mirror.config.read_text().replace("# path: /srv/kb", f"path: {real}/kb/docs")
    folder_mirror.config.write_text(f"state_dir: {link}\n{text}")
    assert folder_mirror.run("--once").code == 0
    return ()


def used_as_state_dir(folder_mirror: Sandbox) -> tuple[str, ...]:
    """A config may use the state directory of `--folder` …"""
    folder_mirror.configure()
    folder_mirror.config.write_text(f"state_dir: {trial(folder_mirror)}\n{folder_mirror.config.read_text()}")
    return ()


def used_as_base(folder_mirror: Sandbox) -> tuple[str, ...]:
    """… or keep only its knowledge base in there."""
    folder_mirror.configure(f"target: {{type: local, path: {trial(folder_mirror)}/kb/docs}}")
    return ()


def under_a_new_name(folder_mirror: Sandbox) -> tuple[str, ...]:
    """The next pass continues with it."""
    folder_mirror.run("init", "docs")
    assert folder_mirror.run("--once").code == 0
    folder_mirror.config.write_text(folder_mirror.config.read_text().replace('name: "docs"', 'name: "new"'))
    return ()


IN_USE = (another_folder, served_by_folder, reached_by_a_symlink, used_as_state_dir, used_as_base)


@enumerated()
@pytest.mark.parametrize("arrange", [*IN_USE, under_a_new_name])
def test_doctor_does_not_report_a_copy_in_use(
    folder_mirror: Sandbox, arrange: Callable[[Sandbox], tuple[str, ...]]
) -> None:
    assert copies(folder_mirror, *arrange(folder_mirror)) == []


@long
@pytest.mark.parametrize("problem", ["in another config", "no state", "another path"])
def test_doctor_reports_but_does_not_offer_to_remove_what_may_be_needed(
    folder_mirror: Sandbox, problem: str
) -> None:
    folder_mirror.run("init", "docs")
    assert folder_mirror.run("--once").code == 0
    options, says = (), f"docs now uses {folder_mirror.root}/kb"
    if problem == "another path":
        text = folder_mirror.config.read_text()
        folder_mirror.config.write_text(text.replace("# path: /srv/kb", f"path: {folder_mirror.root}/kb"))
    else:
        options, says = beside(folder_mirror, "other"), "docs is not in this config"
    if problem == "no state":
        says = "its mirror is unknown because the state is missing"
        for file in folder_mirror.state.glob("state.db*"):
            file.unlink()
    [check] = copies(folder_mirror, *options)
    assert says in check["detail"]
    assert "rm " not in check["detail"] + check["cure"]


@long
@proves("forget {} --left-behind")
def test_doctor_reports_the_previous_base_of_a_mirror_with_the_command_that_empties_it(
    folder_mirror: Sandbox,
) -> None:
    folder_mirror.run("init", "docs")
    assert folder_mirror.run("--once").code == 0
    text = folder_mirror.config.read_text()
    folder_mirror.config.write_text(text.replace("# path: /srv/kb", f"path: {folder_mirror.root}/kb"))
    assert folder_mirror.run("--once").code == 0
    [check] = copies(folder_mirror)
    assert f"{folder_mirror.state}/kb/docs is its former knowledge base" in check["detail"]
    output = folder_mirror.run(*words_of(check["cure"]))
    assert (output.code, f"10 documents in {folder_mirror.state}/kb/docs" in output.err) == (2, True)
    result = folder_mirror.run(*words_of(check["cure"]), "--yes")
    assert result.out == "10 documents of docs deleted; the mirror itself was not changed\n"
    assert (copies(folder_mirror), traces(folder_mirror)) == ([], [])
    assert "previous knowledge base" not in folder_mirror.run("status").out
    second_pass = folder_mirror.run("--once", "--json").json
    assert (second_pass["uploaded"], second_pass["deleted"], "note" in second_pass["mirrors"][0]) == (
        0,
        0,
        False,
    )
    assert folder_mirror.run("search", SECRET, "--json").json["hits"]
    assert folder_mirror.run(*words_of(check["cure"]), "--yes").code == 2


# -- init: everything or nothing -----------------------------------------------------------------------------


@long
@pytest.mark.parametrize("state", ["docs/state", "file/state"])
def test_init_writes_nothing_when_the_state_directory_is_unusable(folder_mirror: Sandbox, state: str) -> None:
    (folder_mirror.root / "file").write_text("")
    assert folder_mirror.run("init", "docs", "--state-dir", state).code == 2
    assert not folder_mirror.config.exists()
    assert trial(folder_mirror).exists()


@long
@pytest.mark.parametrize("inner", ["", "inner"])
def test_config_with_its_state_inside_the_folder_state_leaves_it_unchanged(
    folder_mirror: Sandbox, inner: str
) -> None:
    result = folder_mirror.run(
        "init", "docs", "--state-dir", str(trial(folder_mirror) / inner)
    ).check_success()
    assert "rm -r" not in result.out
    assert folder_mirror.run("--once").code == 0
    assert folder_mirror.run("search", SECRET, "--json", "--folder", "docs").json["hits"]


@long
@pytest.mark.parametrize("known_by", ["name", "folder"])
def test_documents_already_in_the_state_are_not_taken_over_and_nothing_is_lost(
    folder_mirror: Sandbox, known_by: str
) -> None:
    if known_by == "name":
        folder_mirror.configure()
        text = folder_mirror.config.read_text().replace("handbook", "docs").replace("/docs", "/elsewhere")
        folder_mirror.add_folder("elsewhere", {"a.md": "alpha"})
    else:
        text = folder_mirror.configure().read_text()
    folder_mirror.config.write_text(text)
    assert folder_mirror.run("--once").code == 0
    shutil.rmtree(folder_mirror.state / "kb")
    folder_mirror.config.unlink()
    result = folder_mirror.run("init", "docs").check_success()
    assert "moved here" not in result.out
    assert "already" in result.out
    assert (trial(folder_mirror) / "state.db").exists()
    assert (trial(folder_mirror) / "kb" / "docs" / "index.db").exists()
    results = folder_mirror.run("search", SECRET, "--json", "--folder", "docs").json["hits"]
    assert results


@long
def test_init_leaves_a_state_alone_that_also_serves_a_config(folder_mirror: Sandbox) -> None:
    other = beside(folder_mirror, "other")
    assert folder_mirror.run("--once", *other, "--state-dir", trial(folder_mirror)).code == 0
    result = folder_mirror.run("init", "docs").check_success()
    assert "moved here" not in result.out
    assert "rm -r" not in result.out
    assert folder_mirror.run("search", "other", *other, "--state-dir", trial(folder_mirror), "--json").json[
        "hits"
    ]


@long
def test_reusing_an_earlier_base_finds_its_documents_again(sandbox: Sandbox) -> None:
    for number in range(3):
        sandbox.write(f"{number}.md", f"document {number}")

    def pass_into(name: str) -> tuple[int, int, str]:
        sandbox.configure(f"target: {{type: local, path: {sandbox.root / name}}}")
        result = sandbox.run("--once", "--json").check_success()
        return result.json["uploaded"], result.json["deleted"], result.json["mirrors"][0].get("note", "")

    note = "documents are still in the previous knowledge base"
    assert pass_into("first") == (3, 0, "")
    assert pass_into("second") == (3, 0, f"3 {note}")
    (sandbox.docs / "0.md").unlink()
    assert pass_into("first") == (0, 1, f"3 {note}")
    assert sorted(sandbox.search("document")) == ["1.md", "2.md"]
    # A moved folder is the same one; if it was removed or created again, nothing of it remains.
    (sandbox.root / "first").rename(sandbox.root / "moved")
    assert pass_into("moved") == (0, 0, f"3 {note}")
    for file in (sandbox.root / "second").glob("index.db*"):
        file.unlink()
    assert pass_into("moved") == (0, 0, "")
    for file in (sandbox.root / "moved").glob("index.db*"):
        file.unlink()
    assert pass_into("moved") == (2, 0, "")


@long
def test_mirror_reports_no_documents_that_another_mirror_took_over(sandbox: Sandbox) -> None:
    target = {"type": "local", "path": str(sandbox.root / "base")}
    sandbox.mirror({"a.md": "an aardvark"}, f"target: {json.dumps(target)}")
    # The mirror gets another base, and a new mirror of its folder the old one, in one edit of the config.
    sandbox.configure()
    third = {"name": "third", "folder": str(sandbox.docs), "settle": "100ms", "target": target}
    sandbox.config.write_text(f"{sandbox.config.read_text()}  - {json.dumps(third)}\n")
    note = "1 document is still in the previous knowledge base"
    result = sandbox.run("--once", "--mirror", "handbook", "--json").check_success().json
    assert result["mirrors"][0]["note"] == note
    result = sandbox.run("--once", "--mirror", "third", "--json").check_success().json
    assert result["uploaded"] == 0
    assert note not in sandbox.run("status").out
