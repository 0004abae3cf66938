"""Which config, folder and state a command line means, and what a wrong one is told."""

from __future__ import annotations

import os

import pytest

from tests.cli.place import Place, Ran, words_of


@pytest.mark.parametrize("option", ["--folder", "--config", "--state-dir"])
def test_an_empty_path_is_not_the_working_directory(place: Place, option: str) -> None:
    ran = place.run("--once", option, "")
    assert ran.code == 2
    assert "is empty" in ran.err


@pytest.mark.parametrize(
    "command", ["--once", "plan", "search x", "explain a.md", "verify", "status", "retry"]
)
def test_a_folder_that_is_not_there_was_mistyped_and_nothing_is_made(place: Place, command: str) -> None:
    before = place.files()
    ran = place.run(*command.split(), "--folder", "dosc")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"kbsync: no such folder: {place.root}/dosc\n"
    assert place.files() == before


def test_a_folder_that_was_mirrored_and_is_gone_halts_as_ever(place: Place) -> None:
    place.write("a.md", "text")
    assert place.run("--once", "--folder", "docs").code == 0
    place.docs.rename(place.root / "away")
    for words in (["--once"], ["plan"]):
        ran = place.run(*words, "--folder", "docs")
        assert ran.code == 3
        assert "or correct `folder` in the config or --folder" in ran.out + ran.err
    assert place.run("search", "text", "--files", "--folder", "docs").code == 0


def test_a_config_that_was_named_and_is_missing_is_told(place: Place) -> None:
    place.configure()
    for words, env in ((["--config", "nowhere.yaml"], {}), ([], {"KBSYNC_CONFIG": "nowhere.yaml"})):
        ran = place.run("status", *words, env=env)
        assert ran.code == 2
        assert "nowhere.yaml" in ran.err


def test_a_config_is_found_in_its_usual_places(place: Place) -> None:
    place.configure()
    assert place.run("status", "--json").json["mirrors"][0]["name"] == "handbook"
    moved = place.configure(file=place.root / "xdg" / "kbsync" / "config.yaml")
    place.config.unlink()
    assert place.run("status", "--json", env={"XDG_CONFIG_HOME": str(place.root / "xdg")}).code == 0
    assert place.run("status", "--json", env={"KBSYNC_CONFIG": str(moved)}).code == 0


def test_a_config_in_the_working_directory_is_not_taken(place: Place) -> None:
    for name in ("config.yaml", "kbsync.yaml"):
        place.configure(file=place.docs / name)
    assert place.run("status", cwd=place.docs).code == 2


@pytest.mark.parametrize("words", [[], ["--once"]])
def test_a_pass_does_not_guess_a_folder(mirrored: Place, words: list[str]) -> None:
    ran = mirrored.run(*words, cwd=mirrored.docs)
    assert (ran.code, ran.out) == (2, "")
    assert "--folder DIR" in ran.err


def test_the_folder_around_the_working_directory_is_meant(mirrored: Place) -> None:
    ran = mirrored.run("status", "--json", cwd=mirrored.docs / "guides")
    assert ran.json["mirrors"][0]["folder"] == str(mirrored.docs)


def test_every_command_but_a_pass_means_the_folder_around_the_working_directory(place: Place) -> None:
    place.write("a.md", "text")
    place.write("blank.md", " ")
    assert place.run("--once", "--folder", "docs").code == 0

    def here(*words: str) -> Ran:
        return place.run(*words, cwd=place.docs)

    assert here("plan", "--json").json["mirrors"][0]["unchanged"] == 1
    assert "docs: 1 document will be tried again" in here("retry", "blank.md").out
    assert here("approve").out == "nothing is held\n"
    assert "kbsync search what --folder" in here("ask", "what").err
    assert here("state", "backup", str(place.root / "copy.db")).code == 0
    assert here("forget", "docs", "--yes").out == "docs is forgotten\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_state_directory_that_cannot_be_written_is_refused(place: Place) -> None:
    (place.root / "shut").mkdir(mode=0o500)
    assert place.run("--once", "--folder", "docs", "--state-dir", "shut").code == 2


def test_state_goes_where_it_is_said(place: Place) -> None:
    place.write("a.md", "text")
    place.configure()
    assert place.run("--once", "--state-dir", "here").code == 0
    assert (place.root / "here" / "state.db").is_file()
    assert place.run("--once", env={"STATE_DIRECTORY": str(place.root / "systemd")}).code == 0
    assert (place.root / "systemd" / "state.db").is_file()
    assert not place.state.exists()


def test_a_cure_leads_back_to_config_and_state(place: Place) -> None:
    config = place.configure(file=place.root / "my configs" / "kbsync.yaml")
    ran = place.run("status", "--config", "my configs/kbsync.yaml", "--state-dir", "state")
    cure = ran.out.partition("run: ")[2].splitlines()[0]
    assert words_of(cure) == ["--once", "--config", str(config), "--state-dir", str(place.root / "state")]


def test_a_cure_names_a_state_that_only_systemd_knows(place: Place) -> None:
    place.configure()
    ran = place.run("status", env={"STATE_DIRECTORY": str(place.root / "systemd")})
    assert f"--state-dir {place.root}/systemd" in ran.out
    assert "--config" not in ran.out


@pytest.mark.parametrize(
    ("words", "cure"),
    [(["docs"], "kbsync --folder docs"), (["--once", "docs"], "kbsync --once --folder docs")],
)
def test_a_folder_in_place_of_a_command_is_told_with_what_mirrors_it(
    place: Place, words: list[str], cure: str
) -> None:
    ran = place.run(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"kbsync: docs is a folder, not a command; to mirror it: {cure}\n"


def test_help_is_a_command_too(place: Place) -> None:
    for words in ([], ["search"], ["state", "backup"]):
        asked = place.run("help", *words)
        assert (asked.code, asked.err) == (0, "")
        assert asked.out == place.run(*words, "--help").out


@pytest.mark.parametrize("words", [["--json"], ["--dry-run"], ["--once", "status"], ["--json", "status"]])
def test_options_of_a_pass_go_with_a_pass(place: Place, words: list[str]) -> None:
    place.configure()
    ran = place.run(*words)
    assert (ran.code, ran.out) == (2, "")
    assert words[0] in ran.err


@pytest.mark.parametrize("command", ["status", "search x", "explain a.md", "verify"])
def test_without_config_and_folder_the_places_searched_are_named(mirrored: Place, command: str) -> None:
    ran = mirrored.run(*command.split(), cwd=mirrored.root)
    assert (ran.code, ran.out) == (2, "")
    assert str(mirrored.config) in ran.err
    assert "/etc/kbsync/config.yaml" in ran.err
    assert str(mirrored.docs) in ran.err  # the known folder
    assert "--folder DIR" in ran.err


@pytest.mark.parametrize(
    "words", [["--folder", "docs", "status", "--json"], ["status", "--json", "--folder", "docs"]]
)
def test_options_may_stand_before_or_after_the_command(place: Place, words: list[str]) -> None:
    assert place.run(*words).json["mirrors"][0]["name"] == "docs"
