"""`kbsync kb … --set KEY=VALUE`: what a service has to set of its bases and applications."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync_standin.zhipu import HOME_ID
from tests.cli.vendor import Desk, desk_in


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_in(tmp_path) as desk:
        yield desk
        assert desk.vendor.violations() == []


def made(desk: Desk, *words: str) -> str:
    ran = desk.run("kb", *words, "--json")
    assert ran.code == 0, ran.err
    [one] = [value for key, value in ran.json.items() if key != "config"]
    return str(one["id"])


def shown(desk: Desk, *words: str) -> dict[str, Any]:
    [found] = desk.run("kb", *words, "--json").json.values()
    settings: dict[str, Any] = found["settings"]
    return settings


def test_a_base_is_made_with_its_settings_and_shows_them(desk: Desk) -> None:
    base = made(desk, "create", "guides", "--set", "background=red", "--set", "contextual=true")
    assert shown(desk, "show", base) == {"background": "red", "icon": "question", "contextual": "1"}
    lines = desk.run("kb", "show", base).out.splitlines()
    assert {"background:  red", "contextual:  1"} <= set(lines)


def test_settings_of_a_base_change_and_the_others_stay(desk: Desk) -> None:
    ran = desk.run("kb", "update", HOME_ID, "--set", "icon=book", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["knowledge_base"]["settings"] == {"background": "blue", "icon": "book", "contextual": "0"}
    assert ran.json["knowledge_base"]["name"] == "handbook"


def test_the_model_may_be_named_twice_and_only_alike(desk: Desk) -> None:
    words = ["create", "guides", "--model", "12", "--set"]
    assert desk.run("kb", *words, "embedding_model=Embedding-3").code == 2
    base = made(desk, *words, "embedding_model=Embedding-3-pro")
    assert desk.run("kb", "show", base, "--json").json["knowledge_base"]["model"] == "Embedding-3-pro"


NEW_APPLICATION = ("app", "create", "desk")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("create", "x", "--set", "colour=red"), "it has: background, icon, contextual, embedding_model"),
        (
            ("create", "x", "--set", "background=pink"),
            "'pink'; allowed: blue, red, orange, purple, sky, green",
        ),
        (("create", "x", "--set", "contextual=yes"), "allowed: 0, 1, false, true"),
        (("create", "x", "--set", "embedding_model=Embedding-3"), "add --model"),
        (("create", "x", "--set", "background"), "KEY=VALUE"),
        (("create", "x", "--set", "icon=book", "--set", "icon=tag"), "icon is set twice"),
        (("update", HOME_ID, "--set", "icon=apple"), "allowed: question, book, seal"),
        ((*NEW_APPLICATION, "--set", "warmth=1"), "it has: top_p, temperature, max_token"),
        ((*NEW_APPLICATION, "--set", "top_p=1"), "above 0 and below 1"),
        ((*NEW_APPLICATION, "--set", "temperature=nan"), "above 0, at most 1"),
        ((*NEW_APPLICATION, "--set", "max_token=8193"), "a whole number, 1 to 8192"),
        (("app", "update", "1", "--set", "recall_method=fuzzy"), "allowed: embedding, keyword, mixed"),
        (("app", "update", "1", "--set", "slice_count=0"), "a whole number, 1 to"),
        (("app", "update", "1", "--set", "show_recall_result=maybe"), "allowed: false, true"),
    ],
    ids=str,
)
def test_what_is_no_setting_is_refused_before_anything_is_sent(
    desk: Desk, words: tuple[str, ...], said: str
) -> None:
    ran = desk.run("kb", *words)
    assert (ran.code, ran.out) == (2, "")
    assert said in " ".join(ran.err.split())
    assert desk.vendor.asked() == 0


RECALL = {
    "slice_count": "5",
    "recall_method": "mixed",
    "rerank_status": "1",
    "rerank_model_name": "rerank-pro",
    "embedding_recall_ratio": "60",
    "show_recall_result": "true",
}
OWN = {
    "temperature": "0.5",
    "max_token": "2048",
    "param_desc": "strict",
    "icon_color": "red",
    "icon_type": "robot_chat",
}


def set_words(settings: dict[str, str]) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def test_an_application_is_made_with_its_settings_and_shows_them(desk: Desk) -> None:
    ident = made(desk, *NEW_APPLICATION, *set_words(OWN | RECALL))
    found = shown(desk, "app", "show", ident)
    assert OWN.items() | RECALL.items() <= found.items()
    out = desk.run("kb", "app", "show", ident).out
    assert "embedding_recall_ratio: 60\n" in out
    assert f"knowledge bases:        {HOME_ID}\n" in out


def test_settings_alone_are_something_to_change(desk: Desk) -> None:
    for words in (["update", HOME_ID], ["app", "update", "1"]):
        ran = desk.run("kb", *words)
        assert ran.code == 2
        assert "--set" in ran.err
