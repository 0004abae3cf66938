"""The threat model names tests that are there."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT

NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "security.md").read_text())


def test_every_test_that_the_threat_model_names_is_there() -> None:
    assert len(NAMED) > 20
    for file, name in NAMED:
        written = (ROOT / file).read_text()
        assert not name or re.search(rf"^\s*(?:async )?def {name}\(", written, re.MULTILINE), (file, name)
