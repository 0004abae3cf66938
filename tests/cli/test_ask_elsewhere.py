"""`kbsync ask` where nothing writes answers: it says so, and the command it names finds the passages."""

from __future__ import annotations

import pytest

from kbsync_standin.gptbots import HOME_ID
from tests.cli.place import Place, words_of

QUESTION = "what's a badge?"
GPTBOTS = (
    f"target: {{type: gptbots, base_url: 'http://127.0.0.1:9', api_key: k, knowledge_base_id: {HOME_ID}}}"
)


def cure_in(err: str) -> list[str]:
    return list(words_of(err.strip().rpartition(": ")[2]))


def test_an_embedded_base_writes_no_answers_and_is_searched_instead(place: Place) -> None:
    place.write("a.md", "A badge opens the door.")
    config = place.configure(file=place.root / "my config.yaml")
    assert place.run("--once", "-q", "--config", config).code == 0
    ran = place.run("ask", QUESTION, "--config", config)
    assert (ran.code, ran.out) == (2, "")
    assert "handbook: a built-in knowledge base writes no answers" in ran.err
    found = place.run(*cure_in(ran.err))
    assert found.code == 0
    assert "A badge opens the door." in found.out


def test_a_service_without_applications_is_searched_instead(place: Place) -> None:
    """Nobody is asked: nothing listens at the address."""
    place.configure(GPTBOTS)
    ran = place.run("ask", QUESTION)
    assert (ran.code, ran.out) == (2, "")
    assert "a target of type gptbots writes no answers" in ran.err
    assert cure_in(ran.err) == ["search", QUESTION]


def test_of_several_mirrors_the_one_that_was_meant_is_searched(place: Place) -> None:
    text = place.configure().read_text()
    (place.root / "more").mkdir()
    place.config.write_text(text + f"  - name: more\n    folder: {place.root / 'more'}\n")
    ran = place.run("ask", QUESTION, "--mirror", "more")
    assert cure_in(ran.err) == ["search", "--mirror", "more", QUESTION]


@pytest.mark.parametrize("words", [["list"], ["create", "helpdesk"], ["delete", "1", "--yes", "helpdesk"]])
def test_a_service_without_applications_has_none_to_manage(place: Place, words: list[str]) -> None:
    place.configure(GPTBOTS)
    ran = place.run("kb", "app", *words)
    assert (ran.code, ran.out) == (2, "")
    assert "a target of type gptbots has no applications" in ran.err
