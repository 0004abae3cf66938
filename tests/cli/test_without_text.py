"""A document without text is skipped and says what would read it; a damaged one has failed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.place import Place
from tests.index import samples

SCAN = "scans/an invoice.pdf"


def item(place: Place, path: str) -> dict[str, object]:
    status = place.run("status", "--folder", "docs", "--json", "--documents").json
    return next(each for each in status["mirrors"][0]["items"] if each["path"] == path)


@pytest.fixture
def scanned(place: Place) -> Place:
    place.write(SCAN, samples.scanned_pdf())
    place.write("blank.md", " \n\n ")
    place.write("plain.md", "the lantern is in the shed")
    ran = place.run("--once", "--folder", "docs", "--json")
    assert ran.code == 0, ran.err
    documents = ran.json["mirrors"][0]["documents"]
    assert (documents["ready"], documents["skipped"], documents["failed"]) == (1, 2, 0)
    assert ran.json["failed"] == 0
    return place


def test_a_document_without_text_is_skipped_and_listed_with_its_reason(scanned: Place) -> None:
    found = item(scanned, SCAN)
    assert (found["state"], found["document_id"]) == ("skipped", None)
    assert str(found["reason"]).startswith("no text in it: it seems to be scanned")
    assert item(scanned, "blank.md")["state"] == "skipped"
    assert item(scanned, "blank.md")["reason"] == "no text in it: it is empty or only blanks"
    assert scanned.run("status", "--check", "--folder", "docs").code == 0
    assert scanned.run("verify", "--folder", "docs").code == 0
    assert "no text in it" in scanned.run("status", "--documents", "--folder", "docs").out


def test_nothing_more_is_done_about_it(scanned: Place) -> None:
    plan = scanned.run("plan", "--folder", "docs", "--json").json["mirrors"][0]
    assert plan["upload"] == plan["replace"] == []
    again = scanned.run("--once", "--folder", "docs", "--json")
    assert (again.code, again.json["uploaded"], again.json["failed"]) == (0, 0, 0)
    assert "nothing has failed" in scanned.run("retry", "--folder", "docs").out


@pytest.mark.parametrize("command", ["status", "explain"])
def test_the_command_that_is_told_would_read_it(scanned: Place, tmp_path: Path, command: str) -> None:
    """It is pasted into a shell, with a stand-in for the program."""
    if command == "status":
        told = str(item(scanned, SCAN)["reason"])
    else:
        told = scanned.run("explain", SCAN, "--folder", "docs").out
        assert "skipped" in told
    (pasted,) = re.findall(r"`(ocrmypdf [^`]*)`", told)
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / "read.pdf").write_bytes(samples.pdf([["The invoice is over ninety crowns"]]))
    ocr = programs / "ocrmypdf"
    ocr.write_text(f'#!/bin/sh\n[ "$1" = --skip-text ] && cp "{tmp_path}/read.pdf" "$3"\n')
    ocr.chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["/bin/sh", "-c", pasted], check=True, cwd="/", env={**os.environ, "PATH": path})
    ran = scanned.run("--once", "--folder", "docs", "--json")
    assert (ran.code, ran.json["uploaded"]) == (0, 1)
    assert scanned.run("search", "crowns", "--folder", "docs", "--json").json["hits"][0]["path"] == SCAN
