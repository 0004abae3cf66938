"""What `search` prints, for people, for scripts and for other programs."""

from __future__ import annotations

import datetime
import os
import re
from pathlib import Path

import pytest

from kbsync.state import lock
from tests.cli.conftest import ODD
from tests.cli.place import Place, words_of

HIT_KEYS = {
    "path",
    "abs_path",
    "document_id",
    "score",
    "text",
    "title",
    "headings",
    "page",
    "mirror",
    "modified",
    "passages",
}


def test_json_is_one_document_of_the_promised_shape(mirrored: Place) -> None:
    ran = mirrored.run("search", "reset", "password", "--folder", "docs", "--json")
    best = ran.json["hits"][0]
    assert ran.code == 0
    assert set(ran.json) == {"hits"}
    assert set(best) == HIT_KEYS
    assert set(best["passages"][0]) == {"text", "headings", "page", "score"}
    assert best["path"] == "install.md"
    assert best["abs_path"] == str(mirrored.docs / "install.md")
    assert best["mirror"] == "docs"
    assert best["text"] == best["passages"][0]["text"]
    assert isinstance(best["document_id"], str)
    assert isinstance(best["headings"], list)
    assert best["page"] is None
    modified = datetime.datetime.fromisoformat(best["modified"])
    assert best["modified"].endswith("Z")
    assert abs(modified.timestamp() - (mirrored.docs / best["path"]).stat().st_mtime) <= 1


def test_nothing_found_is_no_error(mirrored: Place) -> None:
    ran = mirrored.run("search", "password", "--path", "nowhere/", "--folder", "docs")
    assert (ran.code, ran.out) == (0, "")
    assert "nothing found for: password" in ran.err
    assert mirrored.run("search", "password", "--path", "nowhere/", "--folder", "docs", "--json").json == {
        "hits": []
    }


def test_path_and_type_narrow_the_search(mirrored: Place) -> None:
    def found(*words: str) -> set[str]:
        ran = mirrored.run("search", "office password 密码", "--folder", "docs", "--json", *words)
        return {hit["path"] for hit in ran.json["hits"]}

    assert found("--path", "guides/") == {"guides/hours.txt", "guides/配置.md"}
    assert found("--type", "txt") == {"guides/hours.txt"}
    assert found("--type", ".txt,md", "--path", "guides/") == {"guides/hours.txt", "guides/配置.md"}


def test_a_path_may_be_typed_as_the_shell_has_it(mirrored: Place) -> None:
    def found(path: str, cwd: Path) -> set[str]:
        ran = mirrored.run(
            "search", "office password 密码", "--folder", mirrored.docs, "--json", "--path", path, cwd=cwd
        )
        return {hit["path"] for hit in ran.json["hits"]}

    guides = {"guides/hours.txt", "guides/配置.md"}
    for cwd in (mirrored.docs, mirrored.root):
        assert found("./guides", cwd) == guides
        assert found(f"{mirrored.docs}/guides/", cwd) == guides
        assert found(f"{mirrored.docs}/**/*.txt", cwd) == {"guides/hours.txt"}
        assert found(str(mirrored.docs), cwd) > guides
        assert found("/guides", cwd) == guides
    assert found("./*.txt", mirrored.docs / "guides") == {"guides/hours.txt"}
    assert found("./*.txt", mirrored.docs) == set()


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("--type xyz", ["--type xyz"]),
        ("--type bin", ["--type bin"]),  # a file, but no document
        ("--type txt --type xyz --path packages", ["--path packages", "--type xyz"]),
        ("--path /elsewhere/docs", ["--path /elsewhere/docs"]),
        ("--after 2999-12-31T00:00:00Z", ["--after 2999-12-31T00:00:00Z"]),
        ("--path guides --type rst,txt", []),
    ],
)
def test_a_filter_that_no_document_matches_is_named(mirrored: Place, typed: str, told: list[str]) -> None:
    for output in ([], ["--json"], ["--files"]):
        ran = mirrored.run("search", "office password", "--folder", "docs", *typed.split(), *output)
        assert ran.code == 0
        lines = [line for line in ran.err.splitlines() if "no document matches" in line]
        assert lines == [f"kbsync: no document matches {option}" for option in told]
    quiet = mirrored.run("search", "office", "--folder", "docs", *typed.split(), "-q")
    assert quiet.err == ""


def test_after_takes_dates_and_moments(mirrored: Place) -> None:
    def count(after: str) -> int:
        ran = mirrored.run("search", "password", "--folder", "docs", "--json", "--after", after)
        assert ran.code == 0
        return len(ran.json["hits"])

    assert count("2001-01-31") > 0
    assert count("2001-01-31T12:00:00Z") > 0
    assert count("2999-12-31") == 0


def test_a_date_that_is_none_is_refused_with_an_example(mirrored: Place) -> None:
    ran = mirrored.run("search", "x", "--folder", "docs", "--after", "yesterday")
    assert ran.code == 2
    assert "2026-01-31" in ran.err


def test_files_prints_absolute_paths_only(mirrored: Place) -> None:
    ran = mirrored.run("search", "opening hours", "-k1", "--files", "--folder", "docs")
    assert ran.out == f"{mirrored.docs}/guides/hours.txt\n"


def test_files_with_nul_gives_back_any_name(mirrored: Place) -> None:
    ran = mirrored.run("search", "xylophone", "-k1", "--files", "-0", "--folder", "docs")
    assert ran.raw == os.fsencode(mirrored.docs / ODD) + b"\0"


def test_files_gives_back_bytes_that_are_not_utf8(place: Place) -> None:
    name = os.fsdecode(b"caf\xe9.md")
    place.write(name, "Espresso and cappuccino.\n")
    place.configure()
    assert place.run("--once").code == 0
    ran = place.run("search", "espresso", "--files", "-0")
    assert ran.raw == os.fsencode(place.docs) + b"/caf\xe9.md\0"
    assert place.run("search", "espresso", "--json").json["hits"][0]["path"] == name
    assert place.run("search", "espresso").out.startswith("caf\\xe9.md")


def test_piped_results_are_plain(mirrored: Place) -> None:
    ran = mirrored.run("search", "reset password", "-k1", "--folder", "docs")
    first, second = ran.out.splitlines()
    assert first.startswith("install.md  Installation › Linux")
    assert "reset your password" in second
    assert "\x1b" not in ran.out


def test_a_terminal_gets_a_link_and_matches_in_bold(mirrored: Place) -> None:
    ran = mirrored.run("search", "reset password", "-k1", "--folder", "docs", tty=True)
    assert (mirrored.docs / "install.md").as_uri() in ran.out
    assert "\x1b[1mreset\x1b[0m" in ran.out
    assert "\x1b[1mpassword\x1b[0m" in ran.out


def test_no_color_is_kept(mirrored: Place) -> None:
    ran = mirrored.run("search", "password", "--folder", "docs", tty=True, env={"NO_COLOR": "1"})
    assert "\x1b" not in ran.out


def test_names_and_texts_cannot_write_to_a_terminal(mirrored: Place) -> None:
    ran = mirrored.run("search", "xylophone", "-k1", "--folder", "docs", tty=True)
    assert "\x1b[2J" not in ran.out
    assert "\x1b[31m" not in ran.out
    assert "odd\\x1b[2J\\nname.md" in ran.out


def test_a_long_text_is_shown_on_two_lines_of_the_terminals_width(place: Place) -> None:
    place.write("long.md", "filler words and more of them " * 20 + "zebra " + "and even more of them " * 20)
    place.write("宽.md", "这是很长的一段文字。" * 30 + "斑马" + "后面还有很多文字。" * 30)
    place.configure()
    assert place.run("--once").code == 0
    for query in ("zebra", "斑马"):
        ran = place.run("search", query, "-k1", tty=True, env={"NO_COLOR": "1"})
        lines = ran.out.splitlines()
        assert len(lines) == 3
        assert query in "".join(lines[1:])
        assert all(_cells(line) <= 80 for line in lines)


def _cells(text: str) -> int:
    return sum(2 if re.match("[\u3000-\u9fff\uff00-\uff60]", character) else 1 for character in text)


def test_before_the_first_pass_of_a_running_kbsync_has_ended_nothing_is_to_be_run(place: Place) -> None:
    """`kbsync --once` would find the state in use."""
    place.configure()
    place.state.mkdir(parents=True, mode=0o700)
    with lock.held(place.state):
        ran = place.run("search", "anything", "--config", place.config)
        assert ran.code == 2
        assert (
            "has not been mirrored yet; the first pass is under way; see how far it is: kbsync status"
            in ran.err
        )
        assert "--once" not in ran.err
        assert place.run(*words_of(ran.err.partition("far it is: ")[2].strip())).code == 0


@pytest.mark.parametrize("command", ["search x", "verify", "explain a.md"])
def test_an_index_that_is_gone_is_told_with_what_helps(place: Place, command: str) -> None:
    place.write("a.md", "alpha")
    place.configure()
    assert place.run("--once").code == 0
    for file in (place.state / "kb" / "handbook").glob("index.db*"):
        file.unlink()
    options = ("--config", place.config)
    with lock.held(place.state):
        err = place.run(*command.split(), *options).err
        assert f"a kbsync is working on it; see how far it is: kbsync status --config {place.config}" in err
        assert "--once" not in err
    ran = place.run(*command.split(), *options)
    assert ran.code == 2
    cure = f"kbsync --once --config {place.config}"
    assert f"index.db; run: {cure}" in ran.err
    assert place.run(*words_of(cure)).code == 0
    assert place.run(*command.split(), *options).code == 0


@pytest.fixture
def two(place: Place) -> Place:
    """Two mirrors, `one` with two documents about walruses and `two` with one."""
    for name, texts in (
        ("one", ("The walrus sleeps on the ice.", "Walrus, ice, walrus.")),
        ("two", ("A word about a walrus among many other words about this and that and other animals.",)),
    ):
        (place.root / name).mkdir()
        for number, text in enumerate(texts):
            (place.root / name / f"{number}.md").write_text(text)
    place.config.parent.mkdir(parents=True)
    place.config.write_text(
        "mirrors:\n"
        f"  - {{name: one, folder: {place.root}/one, settle: 100ms}}\n"
        f"  - {{name: two, folder: {place.root}/two, settle: 100ms}}\n"
    )
    assert place.run("--once").code == 0
    return place


def test_mirrors_whose_scores_mean_the_same_are_merged_by_score(two: Place) -> None:
    hits = two.run("search", "walrus ice", "--json").json["hits"]
    assert [hit["mirror"] for hit in hits] == ["one", "one", "two"]
    assert {(hit["mirror"], hit["abs_path"]) for hit in hits} == {
        ("one", f"{two.root}/one/0.md"),
        ("one", f"{two.root}/one/1.md"),
        ("two", f"{two.root}/two/0.md"),
    }
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)
    narrowed = two.run("search", "walrus", "--json", "--mirror", "two").json["hits"]
    assert [hit["mirror"] for hit in narrowed] == ["two"]


def test_with_several_mirrors_each_hit_tells_its_mirror_also_where_all_are_of_one(two: Place) -> None:
    shown = two.run("search", "walrus", "-k", "1").out
    assert shown.startswith("one: 1.md")
    assert "one:" not in two.run("search", "walrus", "--mirror", "one").out


def test_a_closed_pipe_is_no_trouble(mirrored: Place) -> None:
    process = mirrored.start("search", "password", "--folder", "docs", "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), error) == (0, b"")
