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
from tests.cli.place import Place
from tests.index import samples
from tests.share import long


def joined(*files: bytes) -> bytes:
    """Join the pages of these PDF files."""
    whole, out = pypdfium2.PdfDocument.new(), io.BytesIO()
    for file in files:
        whole.import_pages(pypdfium2.PdfDocument(file))
    whole.save(out)
    return out.getvalue()


def documents(place: Place) -> dict[str, tuple[str, str]]:
    status = place.run("status", "--folder", "docs", "--json", "--documents").json
    return {item["path"]: (item["state"], item["document_id"]) for item in status["mirrors"][0]["items"]}


def explained(place: Place) -> str:
    return str(place.run("explain", "scan.pdf", "--folder", "docs", "--json").json)


@proves("install 'rapidocr', 'onnxruntime'")
@long
def test_only_scans_are_reread_when_the_ocr_extra_is_installed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans, "is_installed", lambda: False)
    place.write("scan.pdf", samples.sample("scanned.pdf"))
    place.write("mixed.pdf", joined(samples.pdf(), samples.sample("scanned.pdf")))
    place.write("text.pdf", samples.pdf())
    place.write("slides.pptx", samples.pptx([(samples.PICTURE, "")]))
    assert place.run("--once", "--folder", "docs").code == 0
    before = documents(place)
    assert {path for path, (state, _) in before.items() if state == "skipped"} == {"scan.pdf", "slides.pptx"}
    assert install_command("rapidocr", "onnxruntime") in explained(place)

    monkeypatch.setattr(scans, "is_installed", lambda: True)
    monkeypatch.setattr(IndexedTarget, "_recognize", lambda _, path, __, page: f"quokka {page} of {path}")
    ran = place.run("--once", "--folder", "docs", "--json")
    assert ran.code == 0, ran.err
    after = documents(place)
    assert {path for path in after if after[path] != before[path]} == {"scan.pdf", "mixed.pdf"}
    assert after["scan.pdf"][0] == after["mixed.pdf"][0] == "ready"

    def search() -> set[str]:
        return {
            hit["path"] for hit in place.run("search", "quokka", "--folder", "docs", "--json").json["hits"]
        }

    assert search() == {"scan.pdf", "mixed.pdf"}
    monkeypatch.setattr(scans, "is_installed", lambda: False)
    assert place.run("--once", "--folder", "docs").code == 0
    assert (documents(place), search()) == (after, {"scan.pdf", "mixed.pdf"})
    Path(place.docs / "scan.pdf").unlink()
    assert place.run("--once", "--folder", "docs").code == 0
    assert search() == {"mixed.pdf"}
