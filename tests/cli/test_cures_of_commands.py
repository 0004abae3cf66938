"""What a command says to run instead, or next, is pasted and is the right thing."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest

from kbsync.state import lock
from kbsync_standin.zhipu import HOME_ID
from tests.cli.pasting import after, paste
from tests.cli.place import Place, words_of
from tests.cli.terminal import Begin
from tests.cli.test_cures import elsewhere
from tests.cli.vendor import ZhipuPlace

Said = tuple[str, Callable[[Place, str], object]]


@pytest.fixture
def mirrored_elsewhere(place: Place) -> tuple[Place, list[str]]:
    """A folder that is mirrored by a config in no usual place, and the options that lead there."""
    place.write("a.md", "alpha")
    place.configure()
    flags = elsewhere(place)
    assert place.run("--once", *flags).code == 0
    return place, flags


# -- what was typed is not what was meant ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "says", "shows"),
    [
        ("--once status", "takes no command: run `", "1 document searchable"),
        ("--dry-run", "or run: ", "nothing to do"),
        ("ask 'where is alpha'", "search its passages: ", "a.md"),
        ("open 3", "print paths with: ", "a.md"),
    ],
)
def test_another_command_is_named_with_the_options_in_use(
    mirrored_elsewhere: tuple[Place, list[str]], typed: str, says: str, shows: str
) -> None:
    place, flags = mirrored_elsewhere
    words = words_of(f"kbsync {typed}")
    ran = place.run(*words, *flags, env={"XDG_RUNTIME_DIR": str(place.home)})
    assert ran.code == 2
    command = after(ran.err, says).partition("`")[0].partition("; see: ")[0]
    ran = paste(place, command.replace("QUERY", "alpha"))
    assert (ran.code, shows in ran.out + ran.err) == (0, True), ran


def test_a_search_is_made_again_where_the_last_one_was(mirrored_elsewhere: tuple[Place, list[str]]) -> None:
    place, flags = mirrored_elsewhere
    env = {"XDG_RUNTIME_DIR": str(place.home)}
    assert place.run("search", "alpha", *flags, tty=True, env=env).code == 0
    beyond = place.run("open", "9", env=env)
    assert "the last search has 1 hit" in beyond.err
    assert "a.md" in paste(place, after(beyond.err, "search again: "), QUERY="alpha").out
    (place.docs / "a.md").rename(place.docs / "b.md")
    gone = place.run("open", env=env)
    again = after(gone.err, "search again: ").strip()
    assert paste(place, again.replace("search QUERY", "--once")).code == 0
    assert "b.md" in paste(place, again, QUERY="alpha").out


def test_a_query_is_typed_where_none_was_given(
    mirrored_elsewhere: tuple[Place, list[str]], terminal: Begin
) -> None:
    place, flags = mirrored_elsewhere
    empty = place.run("search", " ", *flags)
    command = after(empty.err, "or type it: ")
    assert "-i needs a terminal" in paste(place, command).err
    typing = terminal(place, *words_of(command))
    typing.until("enter opens")
    typing.type("alpha")
    typing.until("a.md")
    typing.process.send_signal(signal.SIGINT)
    assert typing.end() == 130


def test_a_question_is_typed_where_none_was_given(zhipu: ZhipuPlace) -> None:
    zhipu.write("a.md", "alpha")
    flags = elsewhere(zhipu)
    assert zhipu.run("--once", *flags).code == 0
    assert zhipu.run("kb", "app", "create", "helpdesk", *flags).code == 0
    command = after(zhipu.run("ask", " ", *flags).err, "or type it: ")
    asked = paste(zhipu, f"echo 'where is alpha' | {command}")
    assert (asked.code, "a.md" in asked.out) == (0, True), asked.err


def test_init_with_an_option_for_the_folder_is_told_as_it_is_meant(place: Place) -> None:
    place.write("a.md", "alpha")
    config = place.root / "my config.yaml"
    ran = place.run("init", "--folder", "docs", "--config", str(config))
    assert (ran.code, config.exists()) == (2, False)
    command = after(ran.err, "takes the folder as its argument: ")
    assert paste(place, f"cd {place.root} && {command}").code == 0
    assert place.run("--once", "--config", str(config)).code == 0


def test_who_searches_during_the_first_pass_is_told_how_to_see_it_go(place: Place) -> None:
    place.write("a.md", "alpha")
    place.configure()
    flags = elsewhere(place)
    (place.root / "odd state").mkdir(mode=0o700)
    with lock.held(place.root / "odd state"):
        early = place.run("search", "alpha", *flags)
        seen = paste(place, after(early.err, "see how far it is: "))
    assert (early.code, seen.code, "handbook" in seen.out) == (2, 0, True)


def test_a_screen_too_small_for_all_names_the_command_that_tells_it(place: Place, terminal: Begin) -> None:
    for number in range(4):
        place.write(f"{number}.pdf", f"no pdf {number}")
    place.configure()
    flags = elsewhere(place)
    assert place.run("--once", *flags).code == 1
    watching = terminal(place, "status", "--watch", *flags, rows=6, columns=500)
    frame = watching.until("Ctrl-C ends")
    watching.process.send_signal(signal.SIGINT)
    assert watching.end() == 130
    [command] = re.findall(r"(?:more; see|in full:) (kbsync status[^\x1b\r\n]*)", frame)
    told = paste(place, command)
    assert (told.code, "4 documents failed" in told.out) == (0, True)


# -- knowledge bases and applications --------------------------------------------------------------------


def test_without_a_base_in_the_config_those_of_the_account_are_listed_or_one_is_made(
    zhipu: ZhipuPlace,
) -> None:
    zhipu.config.write_text(zhipu.config.read_text().replace(f'knowledge_id: "{HOME_ID}"', ""))
    flags = elsewhere(zhipu)
    told = zhipu.run("--once", *flags)
    assert told.code == 2
    assert HOME_ID in paste(zhipu, after(told.err, "to list those of the account: ")).out
    made = paste(zhipu, after(told.err, "or create one: "), NAME="guides")
    assert made.out.startswith("knowledge_id: "), made


def test_who_would_retry_all_at_a_service_that_cannot_is_told_how_to_retry_the_mirrors(
    zhipu: ZhipuPlace,
) -> None:
    zhipu.vendor.play("fails", op="upload", times=0, args={"runs": 0, "text": "无法解析"})
    zhipu.write("a.md", "alpha")
    flags = elsewhere(zhipu)
    assert zhipu.run("--once", *flags).code == 1
    refused = zhipu.run("kb", "retry", *flags)
    assert refused.code == 2
    assert "a.md" in paste(zhipu, after(refused.err, "to retry the documents of handbook: ")).out


def test_a_question_without_an_application_names_how_to_make_one(zhipu: ZhipuPlace) -> None:
    zhipu.write("a.md", "alpha")
    flags = elsewhere(zhipu)
    assert zhipu.run("--once", *flags).code == 0
    for one in zhipu.run("kb", "app", "list", "--json", *flags).json["applications"]:
        assert zhipu.run("kb", "app", "delete", one["id"], "--yes", one["name"], *flags).code == 0
    none = zhipu.run("ask", "where is alpha", *flags)
    assert none.code == 2
    made = paste(zhipu, after(none.err, "create one with: "), NAME="helpdesk")
    assert made.code == 0, made.err
    assert zhipu.run("ask", "where is alpha", *flags).code == 0


def test_an_application_that_may_have_been_made_is_looked_for(zhipu: ZhipuPlace) -> None:
    flags = elsewhere(zhipu)
    zhipu.vendor.play("status", op="create-application", effect=False, args={"status": 503})
    unsure = zhipu.run("kb", "app", "create", "helpdesk", *flags)
    look = after(unsure.err, "look with ").partition(" before")[0]
    assert paste(zhipu, look).code == 0
