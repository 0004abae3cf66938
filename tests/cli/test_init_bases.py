"""`kbsync init` for a service: the bases of the account are listed, and a new one is offered."""

from __future__ import annotations

import pytest

from kbsync.config.places import folder_state_dir
from kbsync.config.reader import load
from kbsync.state import lock
from kbsync_standin.zhipu import HOME_ID
from tests.cli.vendor import KEY, ZhipuPlace

ENV = {"ZHIPU_API_KEY": KEY}


@pytest.fixture
def zhipu(zhipu: ZhipuPlace) -> ZhipuPlace:
    """Without a config so far."""
    zhipu.config.unlink()
    return zhipu


def begin(zhipu: ZhipuPlace, *words: str, env: dict[str, str] = ENV) -> tuple[str, str]:
    """What `init` said, and the base that the config names."""
    ran = zhipu.run(
        "init", "docs", "--target", "zhipu", "--base-url", f"{zhipu.vendor.url}/api", *words, env=env
    )
    assert ran.code == 0, ran.err
    target = load(zhipu.config, ENV).mirrors[0].target
    assert target.base_url == f"{zhipu.vendor.url}/api"  # type: ignore[union-attr]
    return ran.err, target.knowledge_id  # type: ignore[union-attr]


def names(zhipu: ZhipuPlace) -> dict[str, str]:
    found = zhipu.run("kb", "list", "--json", env=ENV).json["knowledge_bases"]
    return {one["id"]: one["name"] for one in found}


@pytest.mark.parametrize("chosen", ["1", HOME_ID, "handbook"])
def test_a_base_is_chosen_among_those_of_the_account(
    zhipu: ZhipuPlace, answers: list[str], chosen: str
) -> None:
    answers += ["", chosen]
    said, base = begin(zhipu)
    assert f"1  {HOME_ID}  handbook" in said
    assert base == HOME_ID
    assert zhipu.run("--once", env=ENV).code == 0


def test_a_new_one_is_made_after_a_yes(zhipu: ZhipuPlace, answers: list[str]) -> None:
    answers += ["", "guides", "n", "guides", "y"]
    said, base = begin(zhipu)
    assert said.count("handbook") == 2  # whoever says no is shown them again
    assert names(zhipu) == {HOME_ID: "handbook", base: "guides"}


def test_a_new_one_is_made_off_a_terminal_where_that_is_ordered(zhipu: ZhipuPlace) -> None:
    _, base = begin(zhipu, "--create", "guides")
    assert names(zhipu) == {HOME_ID: "handbook", base: "guides"}


def test_off_a_terminal_those_there_are_are_named_and_nothing_is_written(zhipu: ZhipuPlace) -> None:
    url = f"{zhipu.vendor.url}/api"
    ran = zhipu.run("init", "docs", "--target", "zhipu", "--base-url", url, env=ENV)
    assert (ran.code, ran.out) == (2, "")
    assert f"1  {HOME_ID}  handbook" in ran.err
    assert "add --base ID, or --create NAME" in ran.err
    assert not zhipu.config.exists()


@pytest.mark.parametrize(
    ("env", "why"),
    [({}, "$ZHIPU_API_KEY is not set"), ({"ZHIPU_API_KEY": "kid-4711.another"}, "refuses the api_key")],
)
def test_where_the_account_cannot_be_asked_the_id_is(
    zhipu: ZhipuPlace, answers: list[str], env: dict[str, str], why: str
) -> None:
    answers += ["", HOME_ID]
    said, base = begin(zhipu, env=env)
    assert f"cannot be listed: {why}" in said or why in said
    assert base == HOME_ID


def test_nothing_is_made_for_a_config_that_cannot_be_written(zhipu: ZhipuPlace) -> None:
    zhipu.config.parent.mkdir(parents=True, exist_ok=True)
    zhipu.config.write_text("")
    ran = zhipu.run("init", "docs", "--target", "zhipu", "--create", "guides", env=ENV)
    assert ran.code == 2
    assert zhipu.vendor.effects("base-created") == []


def test_nothing_is_made_while_a_kbsync_works_on_what_was_tried_with_the_folder(zhipu: ZhipuPlace) -> None:
    zhipu.write("a.md", "alpha")
    assert zhipu.run("--once", "--folder", "docs").code == 0
    url = ("--base-url", f"{zhipu.vendor.url}/api")
    with lock.held(folder_state_dir(zhipu.docs, zhipu.state)):
        ran = zhipu.run("init", "docs", "--target", "zhipu", *url, "--create", "guides", env=ENV)
    assert (ran.code, ran.out) == (4, "")
    assert zhipu.vendor.effects("base-created") == []
    assert not zhipu.config.exists()
    _, base = begin(zhipu, "--create", "guides")
    assert names(zhipu) == {HOME_ID: "handbook", base: "guides"}
