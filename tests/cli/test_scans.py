"""Scanned pages and the extra that reads them: its effects on an existing mirror."""

from __future__ import annotations

import io
from pathlib import Path

import pypdfium2
import pytest

from kbsync import install_command
from kbsync.index import scans
from kbsync.targets.indexed.target import IndexedTarget
from tests.cli.cures import proves
from tests.cli.sandbox import Sandbox
from tests.index import samples
from tests.share import long


def joined(*files: bytes) -> bytes:
    """Join the pages of these PDF files."""
    merged, out = pypdfium2.PdfDocument.new(), io.BytesIO()
    for file in files:
        merged.import_pages(pypdfium2.PdfDocument(file))
    merged.save(out)
    return out.getvalue()


def documents(sandbox: Sandbox) -> dict[str, tuple[str, str]]:
    status = sandbox.run("status", "--folder", "docs", "--json", "--documents").json
    return {item["path"]: (item["state"], item["document_id"]) for item in status["mirrors"][0]["items"]}


def explained(sandbox: Sandbox) -> str:
    return str(sandbox.run("explain", "scan.pdf", "--folder", "docs", "--json").json)


@proves("install 'rapidocr', 'onnxruntime'")
@long
def test_only_scans_are_reread_when_the_ocr_extra_is_installed(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans, "is_installed", lambda: False)
    sandbox.write("scan.pdf", samples.sample("scanned.pdf"))
    sandbox.write("mixed.pdf", joined(samples.pdf(), samples.sample("scanned.pdf")))
    sandbox.write("text.pdf", samples.pdf())
    sandbox.write("slides.pptx", samples.pptx([(samples.PICTURE, "")]))
    assert sandbox.run("--once", "--folder", "docs").code == 0
    before = documents(sandbox)
    assert {path for path, (state, _) in before.items() if state == "skipped"} == {"scan.pdf", "slides.pptx"}
    assert install_command("rapidocr", "onnxruntime") in explained(sandbox)

    monkeypatch.setattr(scans, "is_installed", lambda: True)
    monkeypatch.setattr(IndexedTarget, "_recognize", lambda _, path, __, page: f"quokka {page} of {path}")
    sandbox.run("--once", "--folder", "docs", "--json").check_success()
    after = documents(sandbox)
    assert {path for path in after if after[path] != before[path]} == {"scan.pdf", "mixed.pdf"}
    assert after["scan.pdf"][0] == after["mixed.pdf"][0] == "ready"

    def search() -> set[str]:
        return {
            hit["path"] for hit in sandbox.run("search", "quokka", "--folder", "docs", "--json").json["hits"]
        }

    assert search() == {"scan.pdf", "mixed.pdf"}
    monkeypatch.setattr(scans, "is_installed", lambda: False)
    assert sandbox.run("--once", "--folder", "docs").code == 0
    assert (documents(sandbox), search()) == (after, {"scan.pdf", "mixed.pdf"})
    Path(sandbox.docs / "scan.pdf").unlink()
    assert sandbox.run("--once", "--folder", "docs").code == 0
    assert search() == {"mixed.pdf"}
