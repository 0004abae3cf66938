"""`kbsync kb … --set KEY=VALUE`: what a service has to set of its bases and applications."""

from __future__ import annotations

from typing import Any

import pytest

from kbsync_standin.zhipu import HOME_ID
from tests.cli.vendor import ZhipuPlace


def made(zhipu: ZhipuPlace, *words: str) -> str:
    ran = zhipu.run("kb", *words, "--json")
    assert ran.code == 0, ran.err
    [one] = [value for key, value in ran.json.items() if key != "config"]
    return str(one["id"])


def shown(zhipu: ZhipuPlace, *words: str) -> dict[str, Any]:
    [found] = zhipu.run("kb", *words, "--json").json.values()
    settings: dict[str, Any] = found["settings"]
    return settings


def test_a_base_is_made_with_its_settings_and_shows_them(zhipu: ZhipuPlace) -> None:
    base = made(zhipu, "create", "guides", "--set", "background=red", "--set", "contextual=true")
    assert shown(zhipu, "show", base) == {"background": "red", "icon": "question", "contextual": "1"}
    lines = zhipu.run("kb", "show", base).out.splitlines()
    assert {"background:  red", "contextual:  1"} <= set(lines)


def test_settings_of_a_base_change_and_the_others_stay(zhipu: ZhipuPlace) -> None:
    ran = zhipu.run("kb", "update", HOME_ID, "--set", "icon=book", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["knowledge_base"]["settings"] == {"background": "blue", "icon": "book", "contextual": "0"}
    assert ran.json["knowledge_base"]["name"] == "handbook"


def test_the_model_may_be_named_twice_and_only_alike(zhipu: ZhipuPlace) -> None:
    words = ["create", "guides", "--model", "12", "--set"]
    assert zhipu.run("kb", *words, "embedding_model=Embedding-3").code == 2
    base = made(zhipu, *words, "embedding_model=Embedding-3-pro")
    assert zhipu.run("kb", "show", base, "--json").json["knowledge_base"]["model"] == "Embedding-3-pro"


NEW_APPLICATION = ("app", "create", "zhipu")


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
    zhipu: ZhipuPlace, words: tuple[str, ...], said: str
) -> None:
    ran = zhipu.run("kb", *words)
    assert (ran.code, ran.out) == (2, "")
    assert said in " ".join(ran.err.split())
    assert zhipu.vendor.asked() == 0


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


def test_an_application_is_made_with_its_settings_and_shows_them(zhipu: ZhipuPlace) -> None:
    ident = made(zhipu, *NEW_APPLICATION, *set_words(OWN | RECALL))
    found = shown(zhipu, "app", "show", ident)
    assert OWN.items() | RECALL.items() <= found.items()
    out = zhipu.run("kb", "app", "show", ident).out
    assert "embedding_recall_ratio: 60\n" in out
    assert f"knowledge bases:        {HOME_ID}\n" in out


def test_settings_alone_are_something_to_change(zhipu: ZhipuPlace) -> None:
    for words in (["update", HOME_ID], ["app", "update", "1"]):
        ran = zhipu.run("kb", *words)
        assert ran.code == 2
        assert "--set" in ran.err
