"""Tests `kbsync explain`: why search does or doesn't find a file, and the text that kbsync read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kbsync.index import scans
from tests.cli.conftest import ODD
from tests.cli.sandbox import Sandbox
from tests.cli.zhipu import ZhipuSandbox
from tests.index import samples
from tests.share import enumerated, long


@long
def test_explain_prints_the_extracted_text(mirrored: Sandbox) -> None:
    completed = mirrored.run("explain", "install.md", "--text", "--folder", "docs")
    assert "Run the installer, then reset your password." in completed.out
    result = mirrored.run("explain", "install.md", "--text", "--json", "--folder", "docs").json
    assert "Run the installer" in result["text"]
    odd = mirrored.run("explain", ODD, "--text", "--folder", "docs", tty=True)
    assert "xylophone" in odd.out
    assert "\x1b[31m" not in odd.out
    assert "\x1b[2J" not in odd.out


@long
def test_explain_says_when_a_service_does_not_expose_the_text(zhipu: ZhipuSandbox) -> None:
    zhipu.mirror({"install.md": "Run the installer."})
    sentence = "This knowledge base can't return the text it extracted from the document."
    assert sentence in zhipu.run("explain", "install.md", "--text").out
    assert sentence not in zhipu.run("explain", "install.md").out


@long
def test_document_of_a_deleted_knowledge_base_is_explained(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    shutil.rmtree(sandbox.state / "kb")
    for words in ((), ("--text",)):
        result = sandbox.run("explain", "a.md", *words)
        assert result.code == 0 and "The document's state in the knowledge base: missing." in result.out


SCAN = "scans/an invoice.pdf"


@pytest.fixture
def scanned(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    monkeypatch.setattr(scans, "is_installed", lambda: False)
    sandbox.write(SCAN, samples.sample("scanned.pdf"))
    sandbox.write("blank.md", " \n\n ")
    sandbox.write("plain.md", "the lantern is in the shed")
    result = sandbox.run("--once", "--folder", "docs", "--json").check_success()
    documents = result.json["mirrors"][0]["documents"]
    assert (documents["ready"], documents["skipped"], documents["failed"]) == (1, 2, 0)
    assert result.json["failed"] == 0
    return sandbox


def item(sandbox: Sandbox, path: str) -> dict[str, object]:
    status = sandbox.run("status", "--folder", "docs", "--json", "--documents").json
    return next(entry for entry in status["mirrors"][0]["items"] if entry["path"] == path)


@long
def test_document_without_text_is_skipped_with_its_reason_and_not_retried(scanned: Sandbox) -> None:
    result, blank = item(scanned, SCAN), item(scanned, "blank.md")
    assert (result["state"], result["document_id"]) == ("skipped", None)
    assert str(result["reason"]).startswith("no text found: the document seems to contain only scanned")
    assert (blank["state"], blank["reason"]) == (
        "skipped",
        "no text found: the file is empty or contains only whitespace",
    )
    assert scanned.run("status", "--check", "--folder", "docs").code == 0
    assert scanned.run("verify", "--folder", "docs").code == 0
    plan = scanned.run("plan", "--folder", "docs", "--json").json["mirrors"][0]
    assert plan["upload"] == plan["replace"] == []
    assert "nothing has failed" in scanned.run("retry", "--folder", "docs").out


@pytest.mark.parametrize("settings", ["", 'include: ["*.md"]', 'exclude: ["*.md", "!blank.md"]'])
def test_reason_to_skip_a_document_without_text_does_not_depend_on_the_patterns(
    sandbox: Sandbox, settings: str
) -> None:
    """A pattern that selects the file must not be reported as the reason to skip it."""
    sandbox.prepare({"blank.md": " \n\n "}, settings)
    sandbox.once()
    state, explained = sandbox.state_of("blank.md"), sandbox.run("explain", "blank.md").out
    reason = "no text found: the file is empty or contains only whitespace"
    assert (state["state"], state["reason"]) == ("skipped", reason)
    assert f"it is skipped: {reason}." in explained


@pytest.mark.parametrize("settings", ["", 'include: ["*.md"]'])
def test_reason_to_skip_a_file_that_was_not_sent_is_its_rule(sandbox: Sandbox, settings: str) -> None:
    sandbox.prepare({"empty.md": ""}, settings)
    sandbox.once()
    state = sandbox.state_of("empty.md")
    assert (state["state"], state["reason"]) == ("skipped", "empty")


def test_size_of_one_byte_is_singular(sandbox: Sandbox) -> None:
    sandbox.write("one.bin", b"1")
    assert "The file has 1 byte and was changed" in sandbox.run("explain", "one.bin", "--folder", "docs").out


@long
@pytest.mark.parametrize("command", ["status", "explain"])
def test_suggested_command_makes_the_file_readable(scanned: Sandbox, tmp_path: Path, command: str) -> None:
    """It is pasted into a shell, with a stand-in for the program."""
    if command == "status":
        text = str(item(scanned, SCAN)["reason"])
    else:
        text = scanned.run("explain", SCAN, "--folder", "docs").out
        assert "skipped" in text
    (pasted,) = re.findall(r"`(ocrmypdf [^`]*)`", text)
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / "read.pdf").write_bytes(samples.pdf([["The invoice is over ninety crowns"]]))
    ocr = programs / "ocrmypdf"
    ocr.write_text(f'#!/bin/sh\n[ "$1" = --skip-text ] && cp "{tmp_path}/read.pdf" "$3"\n')
    ocr.chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["/bin/sh", "-c", pasted], check=True, cwd="/", env={**os.environ, "PATH": path})
    result = scanned.run("--once", "--folder", "docs", "--json")
    assert (result.code, result.json["uploaded"]) == (0, 1)
    assert scanned.run("search", "crowns", "--folder", "docs", "--json").json["hits"][0]["path"] == SCAN


@long
def test_path_in_several_mirrors_must_be_narrowed(sandbox: Sandbox) -> None:
    sandbox.configure()
    other = sandbox.add_mirror("other", {"notes.md": "The walrus of the other folder.\n"})
    sandbox.mirror({"notes.md": "The walrus lies on the ice.\n"})
    result = sandbox.run("explain", "notes.md")
    assert (result.code, result.out) == (2, "")
    assert "several mirrors have notes.md: handbook, other; choose one with --mirror NAME" in result.err
    for mirror in ("handbook", "other"):
        assert sandbox.run("explain", "notes.md", "--mirror", mirror, "--json").json["mirror"] == mirror
    assert sandbox.run("explain", "notes.md", "--json", cwd=other).json["mirror"] == "other"


@enumerated()
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (".obsidian/plugins/tasks/main.js", "hidden"),
        (".trash/old.md", "hidden"),
        (".secret.md", "hidden"),
        ("node_modules/pkg/README.md", "node_modules/"),
        ("a.sync-conflict-20261120-101500-ABCDEFG.md", "*.sync-conflict-*"),
    ],
)
def test_program_leftovers_are_excluded_and_the_rule_is_named(
    sandbox: Sandbox, path: str, reason: str
) -> None:
    sandbox.write_all({"a.md": "alpha", path: "beta"})
    result = sandbox.run("--once", "--folder", "docs", "--json")
    assert (result.code, result.json["uploaded"]) == (0, 1)
    out = sandbox.run("explain", path, "--folder", "docs").out
    assert reason in out
    assert "default" in out


@long
def test_unknown_path_is_a_usage_error(mirrored: Sandbox) -> None:
    for path in ("nosuch", "nosuch/deeper.md", "/nowhere/at/all"):
        assert mirrored.run("explain", path, "--folder", "docs").code == 2
    for path in ("install.md", "guides", "empty.md", "program.bin"):
        assert mirrored.run("explain", path, "--folder", "docs").code == 0


@long
def test_similar_path_is_suggested_for_an_unknown_one(sandbox: Sandbox) -> None:
    for path in ("handbook/vacation.md", "handbook/notes.md", "archive/notes.md", "a.md"):
        sandbox.write(path, f"text of {path}")
    sandbox.configure()
    sandbox.once()
    suggestions = {
        "vacation.md": "handbook/vacation.md",
        "handbok/vacation.md": "handbook/vacation.md",
        "Handbook/Vacation.md": "handbook/vacation.md",
        "vacaton.md": "handbook/vacation.md",
        "archiv/notes.md": "archive/notes.md",
    }
    for typed, meant in suggestions.items():
        result = sandbox.run("explain", typed)
        says = f"The file is not searchable: it does not exist; did you mean {meant}?"
        assert (result.code, result.out.splitlines()[1]) == (2, says)
    for typed in ("quarterly-report.pdf", "handbook/gone", f"{'x' * 256}.md"):
        result = sandbox.run("explain", typed)
        assert (result.code, "it does not exist; check the path." in result.out) == (2, True)
    (sandbox.docs / "handbook/vacation.md").unlink()
    result = sandbox.run("explain", "handbook/vacation.md")
    assert (result.code, "did you mean" in result.out) == (0, False)


def test_existing_file_outside_the_mirror_is_not_called_missing(mirrored: Sandbox) -> None:
    (mirrored.root / "elsewhere.md").write_text("A file outside the mirrored folder.")
    result = mirrored.run("explain", "elsewhere.md", "--folder", "docs")
    assert (result.code, "no mirrored folder contains it" in result.out) == (2, True)


def test_file_behind_a_symlink_in_the_mirror_names_the_symlink(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    (sandbox.root / "elsewhere/sub").mkdir(parents=True)
    (sandbox.root / "elsewhere/sub/b.md").write_text("A file outside the mirrored folder.")
    (sandbox.docs / "linked").symlink_to(sandbox.root / "elsewhere")
    for typed in ("docs/linked/sub/b.md", "linked/sub/b.md"):
        result = sandbox.run("explain", typed, "--folder", "docs")
        names_link = f"because {sandbox.docs}/linked is a symlink (not followed), and" in result.out
        assert (result.code, names_link) == (2, True)


@long
@pytest.mark.parametrize("is_seen", [True, False], ids=["after a pass", "before"])
def test_unlistable_directory_is_reported_as_unreadable(ordinary: Sandbox, is_seen: bool) -> None:
    ordinary.write("a.md", "alpha")
    ordinary.write("shut/b.md", "beta")
    if is_seen:
        assert ordinary.go("--once", "--folder", "docs").code == 0
    (ordinary.docs / "shut").chmod(0)
    result = ordinary.go("explain", "shut", "--folder", "docs")
    (ordinary.docs / "shut").chmod(0o755)
    assert result.code == 0
    assert "This directory cannot be read: permission denied" in result.out
