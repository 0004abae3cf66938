"""The commands that look: they answer in the promised shapes and leave nothing behind."""

from __future__ import annotations

import pytest

from kbsync import __version__
from kbsync.state import lock
from tests.cli.conftest import ODD
from tests.cli.place import Place, eventually

LOOKING = [
    "status",
    "status --json --documents",
    "status --check",
    "search password",
    "plan",
    "plan --json",
    "explain install.md --text",
    "explain empty.md --json",
    "verify",
    "verify --json",
]


@pytest.mark.parametrize("command", LOOKING)
def test_looking_leaves_no_file_and_changes_none(mirrored: Place, command: str) -> None:
    before = mirrored.files()
    ran = mirrored.run(*command.split(), "--folder", "docs")
    assert ran.code == 0, ran.err
    assert mirrored.files() == before


@pytest.mark.parametrize("command", ["status", "status --json", "plan", "explain a.md", "search x", "verify"])
def test_looking_before_anything_was_mirrored_makes_nothing(place: Place, command: str) -> None:
    place.write("a.md", "alpha")
    before = place.files()
    ran = place.run(*command.split(), "--folder", "docs")
    assert ran.code in (0, 2), ran.err
    assert "Traceback" not in ran.err
    assert place.files() == before


def test_a_state_that_is_being_made_is_none_yet(place: Place) -> None:
    place.write("a.md", "alpha")
    place.configure()
    place.state.mkdir(parents=True)
    (place.state / "state.db").touch()
    assert place.run("status", "--json").json["mirrors"][0]["last_pass"] is None
    assert place.run("plan", "--json").json["mirrors"][0]["upload"] == ["a.md"]
    assert place.run("search", "alpha").code == 2
    assert place.run("approve").code == 2


# -- status ---------------------------------------------------------------------------------------------


def test_status_json_has_the_promised_shape(mirrored: Place) -> None:
    ran = mirrored.run("status", "--json", "--folder", "docs")
    assert ran.json["version"] == __version__
    (mirror,) = ran.json["mirrors"]
    assert set(mirror) == {"name", "folder", "target", "documents", "oldest_pending_s", "last_pass", "halt"}
    assert mirror["documents"] == {
        "ready": 4,
        "indexing": 0,
        "pending": 0,
        "failed": 0,
        "held": 0,
        "skipped": 2,
    }
    assert (mirror["target"], mirror["halt"]) == ("local", None)
    assert mirror["last_pass"].endswith("Z")


def test_status_documents_lists_every_file_with_its_reason(mirrored: Place) -> None:
    ran = mirrored.run("status", "--json", "--documents", "--folder", "docs")
    items = {item["path"]: item for item in ran.json["mirrors"][0]["items"]}
    assert set(items["install.md"]) == {"path", "state", "document_id", "size", "reason"}
    assert items["install.md"]["state"] == "ready"
    assert items["empty.md"]["state"] == "skipped"
    assert items["empty.md"]["document_id"] is None
    assert ODD in items
    shown = mirrored.run("status", "--documents", "--folder", "docs", tty=True).out
    assert "guides/hours.txt" in shown
    assert "\x1b[2J" not in shown


def test_status_says_what_is_wrong_first(place: Place) -> None:
    place.write("broken.pdf", "this is no pdf")
    place.write("good.md", "text")
    place.configure()
    place.run("--once")
    lines = place.run("status", "--documents").out.splitlines()
    assert lines[0].startswith("! handbook: broken.pdf: ")
    documents = [line for line in lines if line.startswith(("failed", "ready"))]
    assert [line.split()[0] for line in documents] == ["failed", "ready"]


def test_check_exits_as_a_pass_would(place: Place) -> None:
    place.write("good.md", "text")
    place.configure()
    assert place.run("status", "--check").code == 4  # never mirrored
    place.run("--once")
    assert place.run("status", "--check", "-q").code == 0
    assert place.run("status", "--check", "-q").out == ""
    place.write("broken.pdf", "this is no pdf")
    place.run("--once")
    assert place.run("status").code == 0
    assert place.run("status", "--check").code == 1


# -- plan -----------------------------------------------------------------------------------------------


@pytest.fixture
def changed(place: Place) -> Place:
    """A mirror in whose folder everything that can happen to a file has happened."""
    for name in ("same", "edited", "moved", "gone", "dropped"):
        place.write(f"{name}.md", f"this is {name}\n" * 40)
    place.configure()
    assert place.run("--once").code == 0
    place.write("edited.md", "now it is another text")
    (place.docs / "moved.md").rename(place.docs / "new place.md")
    (place.docs / "gone.md").unlink()
    place.write("new.md", "a new file")
    place.write(".kbsyncignore", "dropped.md\n")
    return place


def test_plan_json_has_the_promised_shape(changed: Place) -> None:
    ran = changed.run("plan", "--json")
    assert ran.code == 0
    assert ran.json == {
        "mirrors": [
            {
                "name": "handbook",
                "upload": ["new.md"],
                "replace": ["edited.md"],
                "rename": [["moved.md", "new place.md"]],
                "delete": ["dropped.md", "gone.md"],
                "reembed": [],
                "held": [],
                "unchanged": 1,
            }
        ]
    }


def test_plan_reads_as_a_diff_with_totals_last(changed: Place) -> None:
    lines = changed.run("plan").out.splitlines()
    signs = [line.split("  (")[0] for line in lines if line[:2] in ("+ ", "~ ", "> ", "- ", "! ")]
    assert signs == ["+ new.md", "~ edited.md", "> moved.md → new place.md", "- gone.md", "- dropped.md"]
    assert lines[lines.index("no longer selected:") + 1].startswith("- dropped.md  (640 B)")
    assert lines[-1].startswith("handbook: 1 new, 1 changed, 1 renamed, 2 deleted; 1 document unchanged; ")
    assert "\x1b" not in "".join(lines)
    assert "\x1b[32m+\x1b[0m new.md" in changed.run("plan", tty=True).out


def test_plan_may_be_limited(changed: Place) -> None:
    lines = changed.run("plan", "--limit", "0").out.splitlines()
    assert "- … and 1 more" in lines
    assert len(changed.run("plan", "--limit", "0", "--json").json["mirrors"][0]["delete"]) == 2


def test_plan_of_a_missing_folder_waits_for_a_person(place: Place) -> None:
    place.configure()
    place.docs.rmdir()
    ran = place.run("plan", "--json")
    assert ran.code == 3
    assert ran.json["mirrors"][0]["halt"]["reason"] == "folder-missing"
    assert "folder-missing" in place.run("plan").out


# -- explain --------------------------------------------------------------------------------------------


def test_explain_advises_no_pass_where_a_daemon_would_keep_it_out(place: Place) -> None:
    place.write("a.md", "alpha")
    place.configure()
    place.run("--once")
    place.write("a.md", "changed")
    with lock.held(place.state):
        told = eventually(lambda: settled(place.run("explain", "a.md").out))
    assert "the running kbsync does it by itself" in told
    assert "--once" in place.run("explain", "a.md").out


def settled(told: str) -> str:
    """What is told of a file once it has been quiet for long enough."""
    return "" if "more of quiet" in told else told


def test_explain_shows_the_extracted_text(mirrored: Place) -> None:
    ran = mirrored.run("explain", "install.md", "--text", "--folder", "docs")
    assert "Run the installer, then reset your password." in ran.out
    shown = mirrored.run("explain", "install.md", "--text", "--json", "--folder", "docs").json
    assert "Run the installer" in shown["text"]
    odd = mirrored.run("explain", ODD, "--text", "--folder", "docs", tty=True)
    assert "xylophone" in odd.out
    assert "\x1b[31m" not in odd.out
    assert "\x1b[2J" not in odd.out


# -- verify ---------------------------------------------------------------------------------------------


def test_verify_finds_nothing_wrong_after_a_pass(mirrored: Place) -> None:
    ran = mirrored.run("verify", "--json", "--folder", "docs")
    assert ran.json == {
        "mirrors": [
            {
                "name": "docs",
                "ok": True,
                "missing": [],
                "stale": [],
                "orphaned": [],
                "duplicate": [],
                "foreign": 0,
            }
        ]
    }
    assert mirrored.run("verify", "--folder", "docs").out == "docs: all is well\n"


def test_verify_finds_what_is_stale_and_repair_asks_for_it(place: Place) -> None:
    place.write("a.md", "alpha")
    place.configure()
    place.run("--once")
    place.write("a.md", "alpha, changed")
    found = place.run("verify", "--json")
    assert (found.code, found.json["mirrors"][0]["stale"]) == (1, ["a.md"])
    before = place.files()
    assert "stale      a.md" in place.run("verify").out
    assert place.files() == before

    repaired = place.run("verify", "--repair")
    assert repaired.code == 1
    assert "repair of handbook scheduled; the next pass does it: kbsync --once" in repaired.err
    assert place.run("--once", "--json").json["replaced"] == 1
    assert place.run("verify").code == 0
