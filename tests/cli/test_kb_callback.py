"""Tests `kbsync kb callback`, the account's only address, with a real stand-in."""

from __future__ import annotations

import io
import sys

import pytest

from tests.cli.test_kb import TypingPerson
from tests.cli.zhipu import ZhipuSandbox

OLD, NEW = "https://old.example.org/kb", "https://events.example.org/kb"
SECRET = "hush-hush-4711"


def effects(zhipu: ZhipuSandbox) -> list[tuple[str, str]]:
    entries = zhipu.service.effects("callback-set") + zhipu.service.effects("callback-removed")
    return [(entry["effect"], entry["name"]) for entry in entries]


def current_callback(zhipu: ZhipuSandbox) -> object:
    return zhipu.run("kb", "callback", "show", "--json").json["callback"]


def test_first_callback_is_set_without_confirmation_and_without_showing_secrets(
    zhipu: ZhipuSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    (zhipu.root / "token").write_text(f"{SECRET}\n")
    monkeypatch.setenv("TOKEN_OF_TESTS", SECRET)
    assert current_callback(zhipu) is None
    assert zhipu.run("kb", "callback", "show").out == "the account has no callback URL\n"
    headers = (f"X-Token=@{zhipu.root / 'token'}", "X-More=env:TOKEN_OF_TESTS")
    words = [argument for header in headers for argument in ("--header", header)]
    result = zhipu.run("kb", "callback", "set", NEW, *words).check_success()
    assert result.out.splitlines() == [
        f"url:      {NEW}",
        "headers:  X-Token, X-More (values not shown)",
        "in use:   yes",
    ]
    assert current_callback(zhipu) == {"url": NEW, "headers": ["X-Token", "X-More"], "in_use": True}
    assert SECRET not in result.out + result.err
    assert effects(zhipu) == [("callback-set", NEW)]


@pytest.mark.parametrize(
    ("command", "effect"),
    [(["set", NEW], ("callback-set", NEW)), (["delete"], ("callback-removed", OLD))],
    ids=["set", "delete"],
)
def test_replacing_a_callback_shows_it_and_requires_its_address(
    zhipu: ZhipuSandbox, command: list[str], effect: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert zhipu.run("kb", "callback", "set", OLD).code == 0
    for words in ([], ["--yes", NEW], ["--yes", "yes"]):
        zhipu.run("kb", "callback", *command, *words).check_refusal(2, f"not only kbsync's, to {OLD}")
    monkeypatch.setattr(sys, "stdin", TypingPerson(f"{NEW}\n"))
    assert zhipu.run("kb", "callback", *command).code == 2
    assert effects(zhipu) == [("callback-set", OLD)]
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{OLD}\n"))  # no terminal
    assert zhipu.run("kb", "callback", *command).code == 2
    monkeypatch.setattr(sys, "stdin", TypingPerson(f"{OLD}\n"))
    assert zhipu.run("kb", "callback", *command).code == 0
    assert effects(zhipu)[-1] == effect


def test_callback_is_deleted_once_and_a_missing_one_is_reported(zhipu: ZhipuSandbox) -> None:
    assert zhipu.run("kb", "callback", "set", OLD).code == 0
    assert zhipu.run("kb", "callback", "delete", "--yes", OLD, "--json").json == {"deleted": OLD}
    assert zhipu.run("kb", "callback", "delete", "--yes", OLD, "--json").json == {"deleted": None}
    assert zhipu.run("kb", "callback", "delete").out == "the account has no callback URL\n"
    assert effects(zhipu) == [("callback-set", OLD), ("callback-removed", OLD)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["example.org/kb"], "URL isn't valid"),
        (["ftp://example.org/kb"], "URL isn't valid"),
        (["https://exa mple.org"], "URL isn't valid"),
        ([f"https://me:{SECRET}@example.org/kb"], "username or password"),
        (["http://events.example.org/kb", "--header", "X-Token=env:HOME"], "unencrypted"),
        ([NEW, "--header", f"X-Token={SECRET}"], "could see a value on the command line with ps"),
        ([NEW, "--header", SECRET], "NAME=@FILE"),
        ([NEW, "--header", f"X Token=@{SECRET}"], "NAME=@FILE"),
        ([NEW, "--header", "X-Token=env:NO_SUCH_VARIABLE"], "is empty"),
        ([NEW, "--header", "X-Token=@nowhere"], "cannot be read"),
        ([NEW, "--header", "X-Token=env:HOME", "--header", "x-token=env:HOME"], "appears twice"),
    ],
    ids=str,
)
def test_invalid_callback_is_refused_before_confirmation(
    zhipu: ZhipuSandbox, words: list[str], message: str
) -> None:
    result = zhipu.run("kb", "callback", "set", *words)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert SECRET not in result.err
    assert zhipu.service.request_count() == 0


@pytest.mark.parametrize("command", [["show"], ["set", NEW], ["delete"]], ids=str)
def test_service_without_callbacks_is_reported(zhipu: ZhipuSandbox, command: list[str]) -> None:
    zhipu.service.turn(not_offered=["callback"])
    zhipu.run("kb", "callback", *command).check_refusal(2, "doesn't support this request")


def test_foreign_names_cannot_move_the_cursor(zhipu: ZhipuSandbox) -> None:
    body = {"url": "https://x.example/\x1b[2J", "callback_header": {"\x1b[2J": "x"}, "be_in_use": 1}
    args = {"set": {"data": body}}
    zhipu.service.play("envelope", op="callback", args=args)
    result = zhipu.run("kb", "callback", "show", tty=True).check_success()
    assert "\x1b[2J" not in result.out
