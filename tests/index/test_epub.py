"""Tests that every chapter of a book is read in the order of the spine, below its title."""

from __future__ import annotations

import pytest

from kbsync.errors import Rejected
from kbsync.index.read.epub import read_epub
from tests.index import samples

PACKAGE = "OEBPS/content.opf"


def changed(book: bytes, part: str, old: str, new: str) -> bytes:
    content = samples.parts_of(book)[part].decode()
    assert old in content
    return samples.with_part(book, part, content.replace(old, new).encode())


def test_chapters_follow_the_spine():
    book = samples.epub(["<h1>Last</h1>", "<h1>First</h1>"])
    spine = '<itemref idref="c1"/><itemref idref="c2"/>'
    book = changed(book, PACKAGE, spine, '<itemref idref="c2"/><itemref idref="c1"/>')
    assert read_epub(book).text == "# First\n\n# Last"


def test_chapter_without_a_heading_gets_its_title_from_the_contents():
    text = read_epub(
        samples.epub(["<p>Call me Ishmael.</p>", "<p>Part 2</p><p>More.</p>", "<h2>Own</h2>"])
    ).text
    assert text == "# Part 1\n\nCall me Ishmael.\n\n# Part 2\n\nMore.\n\n## Own"


def test_contents_of_older_books_are_read_too():
    book = changed(samples.epub(["<p>Words.</p>"]), PACKAGE, ' properties="nav"', "")
    item = '<item id="n" href="toc.ncx" media-type="application/x-dtbncx+xml"/></manifest>'
    book = changed(book, PACKAGE, "</manifest>", item)
    doctype = (
        '<!DOCTYPE ncx PUBLIC "-//NISO//DTD ncx 2005-1//EN" "http://www.daisy.org/z3986/2005/ncx-2005-1.dtd">'
    )
    point = '<navPoint><navLabel><text>Loomings</text></navLabel><content src="c1.xhtml#top"/></navPoint>'
    book = samples.with_part(book, "OEBPS/toc.ncx", f"{doctype}<ncx>{point}</ncx>".encode())
    assert read_epub(book).text == "# Loomings\n\nWords."


@pytest.mark.parametrize("head", ["", "<?xml version='1.0' encoding='x-mac-thai'?>"])
def test_book_with_damaged_contents_is_read_without_titles(head):
    nav = f"{head}<nav><a href='c1.xhtml'>x".encode()
    book = samples.with_part(samples.epub(["<p>Words.</p>"]), "OEBPS/nav.xhtml", nav)
    assert read_epub(book).text == "Words."


def test_contents_page_in_the_spine_is_left_out():
    book = changed(samples.epub(["<p>Words.</p>"]), PACKAGE, "<spine>", '<spine><itemref idref="nav"/>')
    assert read_epub(book).text == "# Part 1\n\nWords."


def test_cdata_sections_are_text():
    script = "<script>//<![CDATA[\nlet a = '</p>'\n//]]></script>"
    book = samples.epub([f"<h1>One</h1>{script}<p><![CDATA[if a < b & c > <i>]]> ends.</p>"])
    assert read_epub(book).text == "# One\n\nif a < b & c > <i> ends."


def test_svg_pages_are_read():
    drawing = "<svg><title>Cover</title><text>The old</text><text>man<tspan>ners</tspan></text></svg>"
    assert read_epub(samples.epub([drawing])).text == "# Part 1\n\nCover The old manners"


def test_chapter_in_an_unknown_format_is_read_from_its_fallback():
    book = samples.epub(["<h1>Words</h1>"])
    book = changed(book, PACKAGE, '<itemref idref="c1"/>', '<itemref idref="x"/><itemref idref="y"/>')
    items = (
        '<item id="x" href="x.json" media-type="application/json" fallback="c1"/>'
        '<item id="y" href="y.json" media-type="application/json" fallback="y"/></manifest>'
    )
    assert read_epub(changed(book, PACKAGE, "</manifest>", items)).text == "# Words"


def test_external_dtd_is_never_fetched_and_entity_declarations_are_refused():
    doctype = (
        '?>\n<!DOCTYPE package PUBLIC "+//ISBN 0-9673008-1-9//DTD OEB 1.2 Package//EN" "http://x/y.dtd"{}>'
    )
    book = samples.epub(["<h1>Words</h1>"])
    assert read_epub(changed(book, PACKAGE, "?>", doctype.format(""))).text == "# Words"
    with pytest.raises(Rejected) as refusal:
        read_epub(changed(book, PACKAGE, "?>", doctype.format("[<!ENTITY a 'x'>]")))
    assert refusal.value.code == "bomb"
