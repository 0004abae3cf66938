"""One copy of the text and no more: what was tried with `--folder` becomes the mirror of a config."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from kbsync.config.places import folder_state_dir
from kbsync.state import lock
from tests.cli.pasting import paste
from tests.cli.place import Place

SECRET = "zqsecret"


@pytest.fixture
def tried(place: Place) -> Place:
    """A folder that was mirrored with `--folder`."""
    for number in range(8):
        place.write(f"{number}.md", f"document {number}")
    place.write("secret.md", f"the {SECRET} of the house")
    place.write("sub/deep/secret.md", f"another {SECRET}")
    assert place.run("--once", "--folder", "docs").code == 0
    return place


def trial(place: Place) -> Path:
    return folder_state_dir(place.docs, place.state)


def indexes(place: Place) -> list[str]:
    return sorted(str(file.relative_to(place.state)) for file in place.state.rglob("index.db"))


def traces(place: Place) -> list[str]:
    files = [file for file in place.state.rglob("*") if file.is_file()]
    return [str(file) for file in files if SECRET.encode() in file.read_bytes()]


def copies(place: Place, *options: str) -> list[dict[str, Any]]:
    ran = place.run("doctor", "--json", *options)
    return [one for one in ran.json["checks"] if one["name"] == "copies" and one["result"] == "warning"]


def test_init_takes_over_what_was_mirrored_with_folder(tried: Place) -> None:
    ran = tried.run("init", "docs")
    assert ran.code == 0
    assert "taken over" in ran.out
    assert indexes(tried) == ["kb/docs/index.db"]
    assert not trial(tried).exists()
    found = tried.run("search", SECRET, "--json").json["hits"]
    assert {hit["path"] for hit in found} >= {"secret.md", "sub/deep/secret.md"}
    again = tried.run("--once", "--json").json
    assert (again["uploaded"], again["mirrors"][0]["documents"]["ready"]) == (0, 10)
    (tried.docs / "secret.md").unlink()
    shutil.rmtree(tried.docs / "sub")
    assert tried.run("--once", "--json").json["deleted"] == 2
    assert traces(tried) == []
    assert copies(tried) == []


def test_init_takes_it_over_beside_mirrors_that_the_state_knows_already(tried: Place) -> None:
    other = tried.root / "other"
    other.mkdir()
    (other / "a.md").write_text("alpha")
    tried.run("init", "other")
    assert tried.run("--once").code == 0
    second = tried.root / "second.yaml"
    assert "taken over" in tried.run("init", "docs", "--config", str(second)).out
    both = tried.config.read_text() + second.read_text().partition("mirrors:\n")[2]
    tried.config.write_text(both)
    counts = {one["name"]: one["documents"]["ready"] for one in tried.run("status", "--json").json["mirrors"]}
    assert counts == {"other": 1, "docs": 10}
    (tried.docs / "secret.md").unlink()
    shutil.rmtree(tried.docs / "sub")
    ran = tried.run("--once", "--json").json
    assert (ran["uploaded"], ran["deleted"]) == (0, 2)
    assert indexes(tried) == ["kb/docs/index.db", "kb/other/index.db"]
    assert traces(tried) == []


def test_init_changes_nothing_while_a_kbsync_works_on_what_it_would_take_over(tried: Place) -> None:
    with lock.held(trial(tried)):
        ran = tried.run("init", "docs")
    assert ran.code == 4
    assert "stop it first" in ran.err
    assert not tried.config.exists()
    assert tried.run("search", SECRET, "--folder", "docs", "--files").out.startswith(str(tried.docs))


def test_a_config_for_a_service_leaves_the_copy_and_tells_how_to_remove_it(tried: Place) -> None:
    ran = tried.run("init", "docs", "--target", "zhipu", "--base", "1")
    assert ran.code == 0
    [line] = [line for line in ran.out.splitlines() if "rm -r" in line]
    assert paste(tried, line[line.index("rm -r") :]).code == 0
    assert traces(tried) == []


def test_doctor_names_a_copy_beside_the_mirror_of_a_config_with_the_command_that_removes_it(
    tried: Place,
) -> None:
    tried.configure()
    assert tried.run("--once").code == 0
    [found] = copies(tried)
    assert str(trial(tried)) in found["detail"]
    assert paste(tried, found["cure"]).code == 0
    assert copies(tried) == []
    (tried.docs / "secret.md").unlink()
    shutil.rmtree(tried.docs / "sub")
    assert tried.run("--once").code == 0
    assert traces(tried) == []


def test_doctor_names_the_copy_of_a_mirror_that_left_the_config(tried: Place) -> None:
    tried.run("init", "docs")
    tried.run("--once")
    tried.config.write_text(tried.config.read_text().replace('name: "docs"', 'name: "new"\n    prefix: "x"'))
    tried.config.write_text(tried.config.read_text().replace(f"{tried.docs}", f"{tried.root}/elsewhere"))
    (tried.root / "elsewhere").mkdir()
    [found] = copies(tried)
    assert "kb/docs" in found["detail"]
    assert paste(tried, found["cure"]).code == 0
    assert copies(tried) == []
    assert traces(tried) == []


@pytest.mark.parametrize("is_there", [True, False])
def test_doctor_names_the_copy_of_a_folder_that_is_gone_and_of_one_that_is_not_known(
    tried: Place, is_there: bool
) -> None:
    if is_there:
        (trial(tried) / "folder").unlink()
    else:
        tried.docs.rename(tried.root / "away")
    (tried.root / "other").mkdir()
    assert tried.run("init", "other").code == 0
    [found] = copies(tried)
    assert str(trial(tried)) in found["detail"]
    assert paste(tried, found["cure"]).code == 0
    assert copies(tried) == [] and traces(tried) == []


def test_doctor_names_what_was_set_aside_damaged(tried: Place) -> None:
    aside = trial(tried) / "kb" / "docs" / "index.db.damaged-1"
    aside.write_bytes(f"some {SECRET}".encode())
    [found] = copies(tried, "--folder", "docs")
    assert str(aside) in found["detail"]
    assert paste(tried, found["cure"]).code == 0
    assert copies(tried, "--folder", "docs") == []


def test_doctor_leaves_alone_what_is_served(tried: Place) -> None:
    assert copies(tried, "--folder", "docs") == []
    (tried.root / "other").mkdir()
    assert tried.run("init", "other").code == 0
    assert copies(tried) == []  # the folder is there, and searched with --folder
