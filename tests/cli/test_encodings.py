"""Files in old encodings are found by their words, whatever their language."""

from __future__ import annotations

import pytest

from tests.cli.place import Place

FILES = [
    ("Það er gott veður í dag.", "cp1252", "veður"),
    ("Passwörtern: äöü ÄÖÜ ß", "cp1252", "Passwörtern"),
    ("Şişli'de güneşli bir gün", "cp1254", "güneşli"),
    ("Zażółć gęślą jaźń", "iso-8859-2", "gęślą"),
    ("Каждый сотрудник имеет право на отпуск", "koi8-r", "сотрудник"),
    ("每位员工每年享有三十天假期。", "gb18030", "假期"),
]


@pytest.mark.parametrize(("text", "encoding", "word"), FILES)
def test_a_file_in_an_old_encoding_is_found_and_shown_as_it_was_written(
    place: Place, text: str, encoding: str, word: str
) -> None:
    place.write("old.txt", text.encode(encoding))
    assert place.run("--once", "--folder", "docs").code == 0
    (hit,) = place.run("search", word, "--folder", "docs", "--json").json["hits"]
    assert hit["text"] == text
