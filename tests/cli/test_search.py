"""Tests `kbsync search`: its output for people and programs, services, and results as the user types."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from kbsync import freshness
from kbsync.cli.commands.search_live import PAUSE, PAUSE_AT_SERVICES, LiveSearch, open_or_print, pause_for
from kbsync.cli.output import Output
from kbsync.config.model import folder_config
from kbsync.config.places import folder_state_dir
from kbsync.config.secrets import Secret
from kbsync.contract.searching import Hit, Origin, Passage, Query
from kbsync.core.model import Status
from kbsync.engine.search import FoundDocument
from kbsync.engine.status import clock_time
from kbsync.errors import Unavailable
from kbsync.freshness import Note
from kbsync.search import SearchReply
from kbsync.state import lock
from kbsync.targets.gptbots.config import GptbotsTargetConfig
from kbsync.targets.local.config import LocalTargetConfig
from kbsync.targets.services.config import EmbeddingConfig, RerankConfig
from kbsync_standin.server import Server
from tests.cli.conftest import ODD, SECRET
from tests.cli.cures import proves
from tests.cli.pasting import paste
from tests.cli.sandbox import Sandbox, eventually, words_of
from tests.cli.terminal import FIRST_SCREEN, SECOND_SCREEN, Begin
from tests.cli.zhipu import ZhipuSandbox, filled_zhipu_sandbox
from tests.share import long


def test_search_json_has_the_promised_shape(mirrored: Sandbox) -> None:
    result = mirrored.run("search", "reset", "password", "--folder", "docs", "--json")
    best = result.json["hits"][0]
    assert (result.code, set(result.json)) == (0, {"hits"})
    file = mirrored.docs / "install.md"
    expected = {"path": "install.md", "abs_path": str(file), "mirror": "docs", "page": None}
    expected |= {"host": None, "here": True, "state": "ready", "reason": ""}
    assert expected.items() <= best.items()
    contract = {"document_id", "score", "text", "title", "headings", "modified", "passages"}
    assert set(best) == {*expected, *contract, "as_of"}
    [mirror] = mirrored.run("status", "--folder", "docs", "--json").json["mirrors"]
    assert best["as_of"] == mirror["last_pass"]
    assert set(best["passages"][0]) == {"text", "headings", "page", "line", "score"}
    assert best["text"] == best["passages"][0]["text"]
    assert (type(best["document_id"]), type(best["headings"])) == (str, list)
    modified = datetime.datetime.fromisoformat(best["modified"])
    assert best["modified"].endswith("Z")
    assert abs(modified.timestamp() - file.stat().st_mtime) <= 1


def test_no_hits_is_not_an_error(mirrored: Sandbox) -> None:
    words = ("search", "password", "--path", "nowhere/", "--folder", "docs")
    result = mirrored.run(*words)
    assert (result.code, result.out) == (0, "")
    assert "nothing found for: password" in result.err
    assert mirrored.run(*words, "--json").json == {"hits": []}


GUIDES = {"guides/hours.txt", "guides/配置.md"}


@pytest.mark.parametrize(
    ("words", "where", "paths"),
    [
        ("--path guides/", "", GUIDES),
        ("--type txt", "", {"guides/hours.txt"}),
        ("--type .txt,md --path guides/", "", GUIDES),
        ("--path ./guides", "docs", GUIDES),
        ("--path {docs}/guides/", "", GUIDES),
        ("--path {docs}/**/*.txt", "docs", {"guides/hours.txt"}),
        ("--path {docs}", "", GUIDES | {"install.md"}),
        ("--path /guides", "docs", GUIDES),
        ("--path ./*.txt", "docs/guides", {"guides/hours.txt"}),
        ("--path ./*.txt", "docs", set()),
        ("--after 2001-01-31", "", GUIDES | {"install.md"}),
        ("--after 2001-01-31T12:00:00Z", "", GUIDES | {"install.md"}),
        ("--after 2999-12-31", "", set()),
    ],
)
def test_search_is_narrowed_by_path_type_and_time(
    mirrored: Sandbox, words: str, where: str, paths: set[str]
) -> None:
    """Paths may be typed as the shell completes them."""
    typed = words.format(docs=mirrored.docs).split()
    options = ("--folder", mirrored.docs, "--json", *typed)
    result = mirrored.run("search", "office password 密码", *options, cwd=mirrored.root / where)
    assert {hit["path"] for hit in result.json["hits"]} == paths


def test_pipe_gets_plain_lines_and_terminal_gets_links_and_bold_matches(mirrored: Sandbox) -> None:
    words = ("search", "reset password", "-k1", "--folder", "docs")
    piped = mirrored.run(*words).out
    first, second = piped.splitlines()
    assert first.startswith("install.md  Installation › Linux")
    assert "reset your password" in second
    assert "\x1b" not in piped + mirrored.run(*words, tty=True, env={"NO_COLOR": "1"}).out
    output = mirrored.run(*words, tty=True).out
    assert (mirrored.docs / "install.md").as_uri() in output
    assert "\x1b[1mreset\x1b[0m" in output
    assert "\x1b[1mpassword\x1b[0m" in output


@long
def test_people_see_no_markup_and_no_repeated_heading(sandbox: Sandbox) -> None:
    fence = "```sh\n# as root\nbackup --now\n```\n"
    sandbox.mirror({"backups.md": f"# `Backups`\n\nBackups run at night:\n\n{fence}"})
    first, second = sandbox.run("search", "backups").out.splitlines()
    assert first.startswith("backups.md  Backups  line 1")
    assert second.strip() == "Backups run at night: # as root backup --now"
    [passage] = sandbox.run("search", "backups", "--json").json["hits"][0]["passages"]
    assert passage["text"].startswith("# `Backups`\n\nBackups run"), "programs get it as it is"
    assert passage["headings"] == ["`Backups`"]


@pytest.mark.parametrize(
    ("typed", "options"),
    [
        ("--type xyz", ["--type xyz"]),
        ("--type bin", ["--type bin"]),  # a file that isn't a document
        ("--type txt --type xyz --path packages", ["--path packages", "--type xyz"]),
        ("--path /elsewhere/docs", ["--path /elsewhere/docs"]),
        ("--after 2999-12-31", ["--after 2999-12-31"]),
        ("--path guides --type rst,txt", []),
    ],
)
def test_filter_matching_no_document_is_named(mirrored: Sandbox, typed: str, options: list[str]) -> None:
    for output in ([], ["--json"], ["--files"]):
        result = mirrored.run("search", "office password", "--folder", "docs", *typed.split(), *output)
        assert result.code == 0
        lines = [line for line in result.err.splitlines() if "no document matches" in line]
        assert lines == [f"kbsync: no document matches {option}" for option in options]
    quiet = mirrored.run("search", "office", "--folder", "docs", *typed.split(), "-q")
    assert quiet.err == ""


@pytest.fixture
def held(sandbox: Sandbox) -> Sandbox:
    """A mirror of nine documents: the files of eight are gone, and their deletions wait for approval."""
    for number in range(8):
        sandbox.write(f"Projects/{number}.md", f"zeppelin {number}")
    sandbox.mirror({"rest.md": "zeppelin rest"})
    shutil.rmtree(sandbox.docs / "Projects")
    assert sandbox.run("--once").code == 3
    return sandbox


@long
def test_hit_whose_file_is_gone_is_marked_and_its_approval_is_named(held: Sandbox) -> None:
    result = held.run("search", "zeppelin 3", "--path", "Projects/", "-k1", tty=True)
    assert "the file is gone; waiting for approval to delete the document" in result.out
    assert "file://" not in result.out
    held_note = (
        "handbook: deletions are waiting for your approval: 8 of 9 documents would be deleted; they stay "
    )
    assert f"kbsync: {held_note}until you approve the deletion; fix: kbsync approve" in result.err
    [hit] = held.run("search", "zeppelin 3", "--path", "Projects/", "-k1", "--json").json["hits"]
    reason = "the file is gone; waiting for approval to delete the document"
    assert (hit["state"], hit["reason"]) == ("held", reason)
    rest = held.run("search", "zeppelin", "--path", "rest.md")
    assert "is gone" not in rest.out
    assert rest.err == "", "none of these hits waits for approval"


@long
def test_files_lists_only_files_that_exist(held: Sandbox) -> None:
    result = held.run("search", "zeppelin", "--files", "-0")
    assert result.raw == os.fsencode(held.docs / "rest.md") + b"\0"
    assert "kbsync: left out 8 documents whose file is gone" in result.err.splitlines()
    assert held.run("search", "zeppelin", "--files", "-q").err == ""


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("[z-a]", "a range that is empty"),
        ("a[", "a bracket that is not closed"),
        ("!a", "it matches nothing"),
    ],
)
def test_invalid_pattern_is_refused(mirrored: Sandbox, pattern: str, why: str) -> None:
    result = mirrored.run("search", "office", "--folder", "docs", "--path", pattern)
    assert (result.code, why in result.err, "Traceback" in result.err) == (2, True, False)


def test_files_with_nul_separator_preserves_any_name(mirrored: Sandbox) -> None:
    words = ("search", "xylophone", "-k1", "--files", "--folder", "docs")
    assert mirrored.run(*words, "-0").raw == os.fsencode(mirrored.docs / ODD) + b"\0"
    assert mirrored.run(*words).raw == os.fsencode(mirrored.docs / ODD) + b"\n"


@long
def test_files_preserves_non_utf8_bytes(sandbox: Sandbox) -> None:
    name = os.fsdecode(b"caf\xe9.md")
    sandbox.mirror({name: "Espresso and cappuccino.\n"})
    result = sandbox.run("search", "espresso", "--files", "-0")
    assert result.raw == os.fsencode(sandbox.docs) + b"/caf\xe9.md\0"
    assert sandbox.run("search", "espresso", "--json").json["hits"][0]["path"] == name
    assert sandbox.run("search", "espresso").out.startswith("caf\\xe9.md")


WIDE = re.compile("[\u3000-\u9fff\uff00-\uff60]")


@long
def test_long_text_is_shown_on_two_lines_of_the_terminals_width(sandbox: Sandbox) -> None:
    sandbox.write("long.md", "filler words and more of them " * 20 + "zebra " + "and even more of them " * 20)
    sandbox.write("宽.md", "这是很长的一段文字。" * 30 + "斑马" + "后面还有很多文字。" * 30)
    sandbox.configure()
    assert sandbox.run("--once").code == 0
    for query in ("zebra", "斑马"):
        result = sandbox.run("search", query, "-k1", tty=True, env={"NO_COLOR": "1"})
        lines = result.out.splitlines()
        assert len(lines) == 3
        assert query in "".join(lines[1:])
        assert all(len(line) + len(WIDE.findall(line)) <= 80 for line in lines)


@long
@pytest.mark.parametrize("command", ["doctor", "search x"])
def test_missing_index_of_a_halted_mirror_is_explained_by_its_halt(sandbox: Sandbox, command: str) -> None:
    sandbox.mirror({"a.md": "alpha"})
    sandbox.docs.rename(sandbox.root / "away")
    assert sandbox.run("--once").code == 3
    for file in (sandbox.state / "kb" / "handbook").glob("index.db*"):
        file.unlink()
    with lock.held(sandbox.state):
        result = sandbox.run(*command.split())
    missing = f"index.db doesn't exist; handbook is halted: {sandbox.docs}: the folder is missing; mount the "
    assert missing in result.out + result.err
    assert "then run: kbsync retry --mirror handbook" in result.out + result.err


@long
@pytest.mark.parametrize("command", ["search x", "verify", "explain a.md"])
def test_missing_index_is_reported_with_a_fix(sandbox: Sandbox, command: str) -> None:
    sandbox.mirror({"a.md": "alpha"})
    for file in (sandbox.state / "kb" / "handbook").glob("index.db*"):
        file.unlink()
    options = ("--config", sandbox.config)
    with lock.held(sandbox.state):
        err = sandbox.run(*command.split(), *options).err
        assert f"kbsync is working on it; check progress: kbsync status --config {sandbox.config}" in err
        assert "--once" not in err
    result = sandbox.run(*command.split(), *options)
    assert result.code == 2
    fix = f"kbsync --once --config {sandbox.config}"
    assert f"index.db doesn't exist; run: {fix}" in result.err
    assert sandbox.run(*words_of(fix)).code == 0
    assert sandbox.run(*command.split(), *options).code == 0


@long
def test_mirrors_with_comparable_scores_are_merged_by_score(sandbox: Sandbox) -> None:
    texts = {
        "one/0.md": "The walrus sleeps on the ice.",
        "one/1.md": "Walrus, ice, walrus.",
        "two/0.md": "A word about a walrus among many other words about this and that and other animals.",
    }
    for path, text in texts.items():
        sandbox.write(path, text)
    mirrors = [
        {"name": name, "folder": str(sandbox.docs / name), "settle": "100ms"} for name in ("one", "two")
    ]
    sandbox.config.parent.mkdir(parents=True)
    sandbox.config.write_text(json.dumps({"mirrors": mirrors}))
    assert sandbox.run("--once").code == 0
    hits = sandbox.run("search", "walrus ice", "--json").json["hits"]
    assert [hit["mirror"] for hit in hits] == ["one", "one", "two"]
    assert {hit["abs_path"] for hit in hits} == {str(sandbox.docs / path) for path in texts}
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)
    narrowed = sandbox.run("search", "walrus", "--json", "--mirror", "two").json["hits"]
    assert [hit["mirror"] for hit in narrowed] == ["two"]
    # Each hit names its mirror, even if all are from one.
    assert sandbox.run("search", "walrus", "-k", "1").out.startswith("one: 1.md")
    assert "one:" not in sandbox.run("search", "walrus", "--mirror", "one").out


def mirror_two(sandbox: Sandbox) -> Path:
    """Mirror `docs` as handbook and another folder as pets; return the index of pets."""
    sandbox.prepare({"dog.md": "The dog sleeps in its basket."})
    sandbox.add_mirror("pets", {"puppy.md": "A puppy is a young dog."})
    sandbox.once()
    return sandbox.state / "kb" / "pets" / "index.db"


def break_model(sandbox: Sandbox, index: Path) -> str:
    target = json.dumps({"embedding": {"type": "onnx", "path": str(index.parent / "no-model")}})
    before, pets, after = sandbox.config.read_text().partition("name: pets,")
    sandbox.config.write_text(f"{before}{pets} target: {target},{after}")
    return "no-model has no model.onnx"


def remove_index(_sandbox: Sandbox, index: Path) -> str:
    for file in index.parent.glob("index.db*"):
        file.unlink()
    return "index.db doesn't exist; run: kbsync --once"


def damage_index(_sandbox: Sandbox, index: Path) -> str:
    index.write_bytes(b"no database" * 1000)
    return "index.db is damaged"


@long
@pytest.mark.parametrize(
    ("damage", "code"),
    [
        pytest.param(break_model, 2, id="model"),
        pytest.param(remove_index, 2, id="removed"),
        pytest.param(damage_index, 4, id="damaged"),
    ],
)
def test_mirror_that_cannot_be_searched_is_named_beside_the_hits_of_the_others(
    sandbox: Sandbox, damage: Any, code: int
) -> None:
    reason = damage(sandbox, mirror_two(sandbox))
    result = sandbox.run("search", "dog", "--json").check_success()
    assert [hit["mirror"] for hit in result.json["hits"]] == ["handbook"]
    [note] = [note for note in result.json["notes"] if "pets: not searched: " in note]
    assert reason in note
    assert "nothing has been mirrored" not in note
    result = sandbox.run("search", "dog").check_success()
    assert note in result.err
    # The other documents may have them.
    for query, unknown in (("puppy", "“puppy”"), ('"puppy dog"', "“puppy dog” word for word")):
        words, *_ = notes(sandbox, query)
        assert words.partition(";")[0] == f"no searched document has {unknown}"
    # Without any mirror that can be searched, it is an error.
    sandbox.run("search", "dog", "--mirror", "pets").check_refusal(code, "pets: ", reason)


@pytest.mark.parametrize(
    "words", ["search password --folder docs --json", "--help", "--version", "search --help", "help options"]
)
def test_closed_pipe_is_not_an_error(mirrored: Sandbox, words: str) -> None:
    process = mirrored.start(*words.split())
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), error) == (0, b"")


# -- on a service ----------------------------------------------------------------------------------------

PLACEHOLDER = "【示意图序号_1829473032620613632_103】"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZhipuSandbox]:
    """Mirror a folder next to another user's documents."""
    files = {
        "guides/hours.txt": "The office opens at nine.\n\nThe office closes at five.\n",
        "archive/office.md": "Long ago the office opens at ten.\n",
        "badges.txt": f"A badge looks like {PLACEHOLDER} from the front.\n",
        "doors.txt": "A badge opens the east door.\n",
    }
    others = f"The office opens at nine. A badge of somebody else: {PLACEHOLDER}"
    with filled_zhipu_sandbox(tmp_path_factory.mktemp("shared"), files, others) as zhipu:
        yield zhipu


@long
def test_hits_are_only_our_files(shared: ZhipuSandbox) -> None:
    hits = shared.go("search", "office opens at nine", "--json").json["hits"]
    assert [hit["path"] for hit in hits[:2]] == ["guides/hours.txt", "archive/office.md"]
    best = hits[0]
    assert best["document_id"] == shared.service.document("guides/hours.txt")["id"]
    assert [passage["text"] for passage in best["passages"]] == [best["text"], "The office closes at five."]
    assert best["score"] == best["passages"][0]["score"] > hits[1]["score"]


@long
def test_passage_pictures_are_in_json_and_counted_for_people(shared: ZhipuSandbox) -> None:
    before = shared.service.request_count("images")
    assert shared.run("search", "badge", "--files").code == 0
    assert shared.service.request_count("images") == before
    hits = shared.run("search", "badge", "--json").json["hits"]
    matches = {hit["path"]: hit for hit in hits}
    [image] = matches["badges.txt"]["images"]
    assert (image["placeholder"], image["url"].startswith(shared.service.url)) == (PLACEHOLDER, True)
    assert matches["badges.txt"]["passages"][0]["images"] == [image]
    assert "images" not in matches["doors.txt"] | matches["doors.txt"]["passages"][0]
    assert shared.service.request_count("images") == before + 1  # neither the other file nor another user's
    result = shared.run("search", "badge front")
    assert "    1 image; see --json\n" in result.out
    assert "q-sign" not in result.out + result.err
    signature = image["url"].rpartition("q-signature=")[2].encode()
    files = [path for path in shared.root.rglob("*") if path.is_file()]
    assert not [path for path in files if signature in path.read_bytes()]


@long
def test_search_continues_without_a_failing_ranking_model_and_says_so(shared: ZhipuSandbox) -> None:
    shared.service.play("code-in-200", op="retrieve", args={"code": 1311})
    result = shared.go("search", "closes at five", "--rerank", "--files", "-k1")
    assert (result.code, result.out.strip()) == (0, str(shared.docs / "guides/hours.txt"))
    assert "without its ranking model" in result.err
    assert "1311" in result.err


@long
def test_hits_of_a_service_and_of_the_embedded_base_are_merged_by_rank(zhipu: ZhipuSandbox) -> None:
    """Their scores mean different things: the best hit of each comes before the second of any."""
    folder = zhipu.root / "own"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.md").write_text("office " + "and other words " * 8 * number)
        zhipu.write(f"{number}.md", "office " + "and other words " * 8 * number)
    zhipu.config.write_text(f"{zhipu.config.read_text()}  - {{name: own, folder: {folder}, settle: 100ms}}\n")
    assert zhipu.run("--once").code == 0
    alone = {name: zhipu.search("office", "--mirror", name) for name in ("handbook", "own")}
    hits = zhipu.run("search", "office", "--json").json["hits"]
    assert {name: [hit["path"] for hit in hits if hit["mirror"] == name] for name in alone} == alone
    ranks = [alone[hit["mirror"]].index(hit["path"]) for hit in hits]
    assert ranks == [0, 0, 1, 1, 2, 2]


def aim(sandbox: Sandbox, url: str, rerank: str = "", *, dialect: str = "openai") -> None:
    """Configure a built-in knowledge base with embeddings and reranking from these addresses."""
    service = {"api_key": f"id.{SECRET}", "model": "words"}
    target = {"embedding": {"type": dialect, "base_url": f"{url}/{dialect}/v1", **service}}
    if rerank:
        target["rerank"] = {"type": "jina", "base_url": f"{rerank}/jina/v1", **service}
    sandbox.configure(f"target: {json.dumps({'type': 'local', **target})}")


AWAY = "http://127.0.0.1:9"


@long
def test_search_works_without_its_services_and_says_so(sandbox: Sandbox, models: Server) -> None:
    aim(sandbox, models.url, models.url)
    sandbox.write("bees.md", "bees make honey in a beehive")
    sandbox.write("taxes.md", "the tax return is due in may")
    sandbox.write("honey.md", "honey honey honey and more honey")
    assert sandbox.run("--once").code == 0
    assert sandbox.search("bees make honey")[:2] == ["bees.md", "honey.md"]
    assert sandbox.search("bees make honey", "--rerank")[0] == "bees.md"
    aim(sandbox, models.url)
    refused = sandbox.run("search", "bees", "--rerank")
    assert (refused.code, "target.rerank" in refused.err) == (2, True)
    for embedding, rerank, says in (
        (AWAY, models.url, "searched by words alone"),
        (models.url, AWAY, "in kbsync's own order"),
    ):
        aim(sandbox, embedding, rerank)
        result = sandbox.go("search", "tax return", "--json")  # a process: other tests don't set up its log
        assert result.json["hits"][0]["path"] == "taxes.md"
        assert says in result.err
        assert SECRET not in result.err


@long
def test_search_says_which_key_to_change_when_a_service_refuses_it(sandbox: Sandbox, models: Server) -> None:
    aim(sandbox, models.url, models.url)
    sandbox.write("bees.md", "bees make honey in a beehive")
    assert sandbox.run("--once").code == 0
    sandbox.config.write_text(sandbox.config.read_text().replace(SECRET, "revoked"))
    err = sandbox.go("search", "bees", "--rerank").err  # a process: other tests don't set up its log
    for service in ("embedding", "rerank"):
        assert f"set a valid {service}.api_key (or api_key_file) in the config" in err


@long
def test_picture_is_found_by_text(sandbox: Sandbox, models: Server) -> None:
    aim(sandbox, models.url, dialect="newapi")
    sandbox.write("garden.png", b"\x89PNG\r\n\x1a\n\x00 a beehive under an apple tree \x00\xff")
    sandbox.write("taxes.md", "the tax return is due in may")
    sandbox.write("broken.png", b"no picture")
    result = sandbox.run("--once")
    assert (result.code, "broken.png" in result.err) == (1, True)
    assert sandbox.search("a beehive under a tree")[0] == "garden.png"
    sandbox.configure()
    assert sandbox.run("plan", "--json").json["mirrors"][0]["delete"] == []  # deselected, but left


MIRROR = folder_config(Path("/srv/docs")).mirrors[0]


AT = "https://service.example/v1"


@pytest.mark.parametrize(
    ("target", "pause"),
    [
        (LocalTargetConfig(), PAUSE),
        (LocalTargetConfig(embedding=EmbeddingConfig(type="openai", base_url=AT)), PAUSE_AT_SERVICES),
        (LocalTargetConfig(rerank=RerankConfig(type="jina", base_url=AT)), PAUSE_AT_SERVICES),
        (GptbotsTargetConfig(api_key=Secret("secret"), knowledge_base_id="1"), PAUSE_AT_SERVICES),
    ],
    ids=["embedded", "embedding", "rerank", "remote"],
)
def test_paid_requests_wait_for_a_longer_typing_pause(target: Any, pause: float) -> None:
    assert pause_for([MIRROR, replace(MIRROR, target=target)]) == pause


class LiveSession:
    """A session whose searches end when the test says so."""

    def __init__(self, text: str = "", *, several: bool = False) -> None:
        self.searches: list[tuple[str, asyncio.Future[SearchReply]]] = []
        self.session = LiveSearch(self._search, Query(text), pause=0, several=several)
        self.session.redraw = self._redraw
        self.screen = ""

    async def _search(self, query: Query) -> SearchReply:
        reply: asyncio.Future[SearchReply] = asyncio.get_running_loop().create_future()
        self.searches.append((query.text, reply))
        return await reply

    def end_search(self, number: int, *hits: FoundDocument, notes: Sequence[str] = ()) -> None:
        """End the search of this number."""
        self.searches[number][1].set_result(SearchReply(hits, (), list(map(Note, notes))))

    def _redraw(self) -> None:
        self.screen = "\n".join(self.session.lines(Output()))

    async def turn(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


def hit(path: str) -> FoundDocument:
    result = Hit("1", 0.5, (Passage("the text of it\x1b[31m"),))
    return FoundDocument("docs", Path("/srv/docs"), path, result, "docs")


async def test_results_of_an_outdated_query_are_not_shown() -> None:
    stage = LiveSession(several=True)
    working = asyncio.create_task(stage.session.keep_searching())
    stage.session.mark(1)
    assert (stage.session.marked, stage.session.chosen) == (0, None)
    stage.session.type("a")
    await stage.turn()
    stage.session.type("ab")
    stage.end_search(0, hit("old.md"))
    await stage.turn()
    assert not stage.session.hits
    assert [text for text, _ in stage.searches] == ["a", "ab"]
    stage.end_search(1, hit("new.md"), hit("second.md"))
    await stage.turn()
    assert "docs: new.md" in stage.screen
    assert "\x1b[31m" not in stage.screen
    for step, marked in ((-1, 0), (1, 1), (1, 1)):
        stage.session.mark(step)
        assert stage.session.marked == marked
    assert stage.session.chosen == Path("/srv/docs/second.md")
    working.cancel()


async def test_hit_on_another_machine_is_marked_and_cannot_be_opened_here() -> None:
    stage = LiveSession("a")
    origin = Origin("base", "files-2", "news", Path("/srv/news"), 0.0, is_own=False, is_here=False)
    away = FoundDocument("news", Path("/srv/news"), "a.md", replace(hit("").hit, origin=origin), "docs", True)
    stage.session.hits = [away, hit("b.md")]
    lines = list(stage.session.lines(Output()))
    assert f"news on files-2: a.md  as of {clock_time(0)}" in lines[1]
    assert "as of" not in "".join(lines[2:])
    assert stage.session.chosen is None
    stage.session.mark(1)
    assert stage.session.chosen == Path("/srv/docs/b.md")


async def test_hit_whose_file_is_gone_is_marked_and_cannot_be_opened() -> None:
    stage = LiveSession("a")
    gone_hit = replace(hit("a.md"), state=Status.HELD, is_gone=True, reason="the file is gone; held")
    stage.session.hits = [gone_hit, hit("b.md")]
    lines = list(stage.session.lines(Output()))
    assert "a.md  the file is gone; held" in lines[1]
    assert "gone" not in "".join(lines[2:])
    assert stage.session.chosen is None


async def test_failing_service_is_reported_and_search_continues() -> None:
    stage = LiveSession("a")
    working = asyncio.create_task(stage.session.keep_searching())
    await stage.turn()
    stage.searches[0][1].set_exception(Unavailable("search answered 503"))
    await stage.turn()
    assert "search answered 503" in stage.screen
    stage.session.type("ab")
    await stage.turn()
    stage.end_search(1, hit("new.md"))
    await stage.turn()
    assert "503" not in stage.screen
    working.cancel()


@long
def test_interactive_search_returns_the_chosen_path(terminal: Begin, mirrored: Sandbox) -> None:
    typing = terminal(mirrored, "search", "-i", "--folder", "docs")
    typing.until(SECOND_SCREEN)
    typing.type("passw")
    typing.until("install.md")
    typing.type("ords")
    typing.resize(10, 40)
    typing.type("\x7f\r")
    typing.until(FIRST_SCREEN)
    assert typing.end() == 0
    assert str(mirrored.docs / "install.md") in typing.output


def test_no_interactive_search_before_the_first_pass(terminal: Begin, sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    typing = terminal(sandbox, "search", "-i", "--folder", "docs")
    assert typing.end() == 2
    assert "has not been mirrored yet; run:" in typing.output
    assert SECOND_SCREEN not in typing.output


@long
@pytest.mark.parametrize(("ending", "code"), [("\x1b", 0), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_terminal_is_restored_however_search_ends(
    terminal: Begin, mirrored: Sandbox, ending: str | int, code: int
) -> None:
    typing = terminal(mirrored, "search", "-i", "password", "--folder", "docs")
    typing.until(SECOND_SCREEN)
    typing.until("install.md")
    if isinstance(ending, str):
        typing.type(ending)
    else:
        typing.process.send_signal(ending)
    typing.until(FIRST_SCREEN)
    assert typing.end() == code
    assert "Traceback" not in typing.output


# -- documents that a search misses ----------------------------------------------------------------------


def notes(sandbox: Sandbox, query: str, *options: str) -> list[str]:
    """Return the notes on the hits, which are the same on stderr and in the JSON."""
    result = sandbox.run("search", query, "--json", *options)
    assert result.code == 0, result.err
    report: list[str] = result.json.get("notes", [])
    assert [line.removeprefix("kbsync: ") for line in result.err.splitlines()] == report
    assert sandbox.run("search", query, "-q", *options).err == ""
    return report


def test_complete_search_has_no_notes(mirrored: Sandbox) -> None:
    assert notes(mirrored, "password", "--folder", "docs") == []


@pytest.mark.parametrize(
    ("question", "unknown"),
    [("滑雪票價 乘船", "“滑雪票價” or “乘船”"), ("frobnicate 雪", "“frobnicate” or “雪”")],
)
def test_unknown_words_without_spaces_are_named_whole(mirrored: Sandbox, question: str, unknown: str) -> None:
    [note] = notes(mirrored, question, "--folder", "docs")
    assert note.partition(";")[0] == f"no document has {unknown}"


@pytest.mark.parametrize(
    ("question", "note"),
    [
        ("passwrd", "no document has “passwrd”; searched for “password”"),
        ("pasword frobnicate", "no document has “pasword”; searched for “password”"),
        ("passwo", "no document has “passwo”; searched for “password”"),
        ("passw", "no document has “passw”; searched for words that begin with it, such as “password”"),
    ],
)
def test_corrected_spelling_is_reported_and_marked(mirrored: Sandbox, question: str, note: str) -> None:
    assert notes(mirrored, question, "--folder", "docs") == [note]
    output = mirrored.run("search", question, "--folder", "docs", tty=True)
    assert "\x1b[1mpassword" in output.out.lower() and note in output.err


@long
def test_each_hit_says_why_it_matched(mirrored: Sandbox) -> None:
    def run(question: str, *options: str) -> Any:
        return mirrored.run("search", question, "--folder", "docs", "--explain", *options)

    assert re.search(
        r"^    words \d\.\d\d: (reset, pasword → password|pasword → password, reset)"
        r" · meaning \d\.\d\d · together \d\.\d\d$",
        run("reset pasword").out,
        re.M,
    )
    assert re.search(
        r"words .*; in the name: install · .*\n    the question is this document's file name: \+3\n",
        run("install").out,
    )
    assert re.search(r"^    none of the words · meaning 0\.\d\d$", run("ubuntu setup", "-k1").out, re.M)
    for question in ("reset pasword", "install", "ubuntu setup"):
        hits = run(question, "--json").json["hits"]
        plain = mirrored.run("search", question, "--folder", "docs", "--json").json["hits"]
        whys = [hit.pop("why") for hit in hits]
        assert hits == plain
        for hit, why in zip(hits, whys, strict=True):
            points = sum(word["points"] for word in why["in_text"] + why["in_name"])
            assert points == pytest.approx(why["words"], abs=1e-4)
            score = (why["words"] + why["meaning"] + why["together"]) / 2 * why["size_weight"]
            score += why["further"] + 3 * why["named"]
            assert score == pytest.approx(hit["score"], abs=1e-4)
            assert why["ranked"] is None
    assert run("install", "--files").code == 2


def test_only_the_score_is_known_for_service_hits(shared: ZhipuSandbox) -> None:
    result = shared.run("search", "opens at nine", "--explain", "-k1")
    assert re.search(r"^    score \d\.\d\d \(the service doesn't explain its scores\)$", result.out, re.M)
    [hit] = shared.run("search", "opens at nine", "--explain", "-k1", "--json").json["hits"]
    assert set(hit["why"]) == {"lines"}


def test_hits_without_any_query_word_are_labelled(mirrored: Sandbox) -> None:
    assert notes(mirrored, "ubuntu setup", "--folder", "docs") == [
        "no document has “ubuntu” or “setup”; the hits are similar in meaning"
    ]


def test_words_without_any_hit_are_named(mirrored: Sandbox) -> None:
    assert notes(mirrored, "frobnicate zyzzyva qwertz", "--folder", "docs") == [
        "no document has “frobnicate”, “zyzzyva” or “qwertz”"
    ]


def test_code_that_no_document_has_is_named(sandbox: Sandbox) -> None:
    sandbox.write("docs/a.md", "The invoice INV-2026-0042 is for version 2.10.3.")
    sandbox.write("docs/b.md", "Bananas and apples.")
    assert sandbox.run("--once", "--folder", "docs").code == 0
    assert notes(sandbox, "invoice INV-2026-0042", "--folder", "docs") == []
    assert notes(sandbox, "invoice INV-2026-0043 for 2.10.4", "--folder", "docs") == [
        "no document has “INV-2026-0043” or “2.10.4”"
    ]


def test_no_part_of_a_file_name_is_an_unknown_code(sandbox: Sandbox) -> None:
    sandbox.write("docs/travel policy 2025.md", "Bananas and apples.")
    assert sandbox.run("--once", "--folder", "docs").code == 0
    for name in ("travel policy 2025.md", "docs/travel policy 2025.md", "./travel policy 2025.md"):
        assert notes(sandbox, name, "--folder", "docs") == []
    assert notes(sandbox, "travel policy 2026.md", "--folder", "docs") == ["no document has “2026.md”"]


def test_note_says_that_a_query_has_nothing_to_search_for(mirrored: Sandbox) -> None:
    for query in ("🎉", '"?" …'):
        result = mirrored.run("search", "--folder", "docs", "--", query)
        assert (result.code, "the query has no letters or digits to search for" in result.err) == (0, True)
    assert notes(mirrored, "frobnicate 🎉", "--folder", "docs") == notes(
        mirrored, "frobnicate", "--folder", "docs"
    )


def test_phrases_and_excluded_words_narrow_a_search(mirrored: Sandbox) -> None:
    def hits(question: str) -> list[str]:
        result = mirrored.run("search", "--folder", "docs", "--json", "--", question)
        return [hit["path"] for hit in result.json["hits"]]

    assert "install.md" in hits("reset password")
    assert "install.md" not in hits("reset -password")
    assert hits("password path:install.md type:md") == ["install.md"]
    assert hits("office password 密码 type:md -path:guides/ -path:/hymns") == ["install.md"]
    assert set(hits("office password 密码 path:guides/ -type:md")) == {"guides/hours.txt"}
    assert set(hits(f"office password 密码 type:txt,md -path:{mirrored.docs}/*.md")) == GUIDES
    assert notes(mirrored, '"password of reset" guide', "--folder", "docs") == [
        "no document has “password of reset” word for word; omit the quotes to search for the individual "
        "words"
    ]
    result = mirrored.run("search", "--folder", "docs", "--", "-password path:guides")
    assert (result.code, "add a word to search for" in result.err) == (2, True)
    result = mirrored.run("search", "--folder", "docs", "password path:nowhere/")
    assert "no document matches --path nowhere/" in result.err
    for question in ("office type:txt -path:guides/", f"office -path:{mirrored.docs}"):
        result = mirrored.run("search", "--folder", "docs", question)
        assert (result.code, result.out, "no document matches" in result.err) == (0, "", False)


def test_service_query_drops_phrases_and_excluded_words_with_a_note(shared: ZhipuSandbox) -> None:
    result = shared.run("search", 'office "opens at nine" -badge path:guides/ type:txt', "--json")
    assert [hit["path"] for hit in result.json["hits"]] == ["guides/hours.txt"]
    [note] = result.json["notes"]
    assert 'doesn\'t support "phrases" or -words' in note
    hits = shared.run("search", "office opens at nine -path:guides/ -type:rst", "--json").json["hits"]
    assert hits and not any(hit["path"].startswith("guides/") for hit in hits)


@long
def test_only_a_hit_from_an_older_version_is_reported_as_outdated(zhipu: ZhipuSandbox) -> None:
    """A search may find a document before the service reports that it is indexed."""
    zhipu.mirror({"ice.md": "The walrus lies on the ice.\n"})
    zhipu.service.play("stuck", op="upload", match="*ice*", times=0)
    zhipu.service.play("stuck", op="upload", match="*shore*", times=0, args={"searchable": True})
    daemon = zhipu.watch()
    zhipu.write("ice.md", "The walrus swims.\n")
    zhipu.write("shore.md", "The walrus lies on the shore.\n")
    eventually(lambda: zhipu.run("status", "--json").json["mirrors"][0]["documents"]["indexing"] == 2)
    hits = zhipu.run("search", "walrus lies", "--json").json["hits"]
    assert {hit["path"]: (hit["text"].split()[-1], hit["state"], hit["reason"]) for hit in hits} == {
        "ice.md": ("ice.", "indexing", "the file has changed since"),
        "shore.md": ("shore.", "ready", ""),
    }
    assert daemon.end() == 0


@long
def test_unindexed_documents_are_reported_with_and_without_hits(waiting: Sandbox) -> None:
    waits = "handbook: 1 document is waiting and kbsync isn't running; run: kbsync --once"
    for word, explanation in (("document", []), ("xqzzyplk", ["no document has “xqzzyplk”"])):
        assert notes(waiting, word) == [*explanation, waits]
        assert waits in waiting.run("search", word, "--files").err
    with lock.held(waiting.state):
        assert notes(waiting, "document") == ["handbook: 1 file is not indexed yet"]


@long
def test_unfinished_first_pass_is_named_with_one_command(sandbox: Sandbox) -> None:
    service = "{type: openai, base_url: 'http://127.0.0.1:1/v1', api_key: k, model: m, dimensions: 8}"
    sandbox.prepare({"a.md": "alpha"}, f"target: {{type: local, embedding: {service}}}")
    assert sandbox.run("--once").code == 4
    named = [note for note in notes(sandbox, "alpha") if "kbsync isn't running" in note]
    assert named == ["handbook: nothing indexed yet and kbsync isn't running; start it with: kbsync"]


@long
@pytest.mark.usefixtures("in_shanghai")
def test_times_in_prose_are_local_and_those_in_json_are_utc(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    with contextlib.closing(apsw.Connection(str(sandbox.state / "state.db"))) as database:
        database.execute("UPDATE mirror SET last_pass = 1700000000; UPDATE entry SET since = 1700000000")
    sandbox.run("pause").check_success()
    assert "; changes since 2023-11-15 06:13 may be missing;" in sandbox.run("search", "alpha").err
    result = sandbox.run("search", "alpha", "--json", "--after", "2999-12-31", "--mirror", "handbook")
    assert "; changes since 2023-11-14T22:13:20Z may be missing;" in result.json["notes"][0]
    assert "no document matches --after 2999-12-31\n" in result.err
    assert "  Status: ready since 2023-11-15 06:13.\n" in sandbox.run("explain", "a.md").out


@long
@proves("history")
def test_search_with_filters_only_names_the_commands_that_list_documents(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    result = sandbox.run("search", "--after", "2020-01-01")
    assert result.code == 2
    listing, _, newest = (
        result.err.strip().partition("documents: ")[2].partition("\nkbsync: to list the newest changes: ")
    )
    assert all("a.md" in paste(sandbox, command).out for command in (listing, newest))


@long
def test_search_during_the_first_pass_says_so(waiting: Sandbox) -> None:
    with contextlib.closing(apsw.Connection(str(waiting.state / "state.db"))) as database:
        database.execute("UPDATE mirror SET last_pass = NULL")
    with lock.held(waiting.state):
        assert notes(waiting, "document") == [
            "handbook: the first pass is under way; searchable so far: 5 of 6 files"
        ]


@long
@pytest.mark.parametrize("query", ["alpha", "xqzzyplk"])
def test_search_after_the_state_was_lost_says_that_hits_may_be_old(sandbox: Sandbox, query: str) -> None:
    """The knowledge base is still searchable."""
    sandbox.mirror({"a.md": "alpha"})
    for file in sandbox.state.glob("state.db*"):
        file.unlink()
    *_, note = notes(sandbox, query)
    assert note == (
        "handbook: hits may be out of date (no finished pass on record) and kbsync isn't running; "
        "start it with: kbsync"
    )


@long
def test_missing_folder_is_reported_and_failed_files_if_nothing_good_was_found(failed: Sandbox) -> None:
    assert notes(failed, "text") == []
    assert notes(failed, "xqzzyplk") == [
        "no document has “xqzzyplk”",
        "handbook: 2 files failed; kbsync status says why",
    ]
    failed.docs.rename(failed.root / "away")
    assert failed.run("--once").code == 3
    missing, *_ = notes(failed, "text")
    assert missing.startswith("handbook: ")
    assert "docs" in missing
    assert "mount the folder, or if it has moved, correct `folder`" in missing
    assert missing.endswith("; then run: kbsync --once --mirror handbook")


@long
def test_folder_missing_since_the_last_pass_is_reported(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.write("a.md", "alpha")
    assert sandbox.run("--once", "--folder", "docs").code == 0
    sandbox.docs.rename(sandbox.root / "away")
    options = ("--folder", str(sandbox.docs))
    [missing] = notes(sandbox, "alpha", *options)
    assert missing.startswith(
        f"docs: {sandbox.docs}: the folder is missing; mount the folder, or if it has moved, correct "
    )
    assert missing.endswith(f"; then run: kbsync --once --folder {sandbox.docs}")
    # A disk that doesn't respond delays no search.
    responds, responses = threading.Event(), list[bool]()
    monkeypatch.setattr(freshness, "MAX_CHECK_SECONDS", 0.05)
    monkeypatch.setattr(freshness, "identify", lambda _folder: responses.append(responds.wait(60)))
    assert (notes(sandbox, "alpha", *options), responses) == ([], [])
    responds.set()
    monkeypatch.undo()
    with lock.held(folder_state_dir(sandbox.docs, sandbox.state)):
        assert notes(sandbox, "alpha", *options) == []  # a running kbsync reports halts itself


async def test_search_as_you_type_has_the_same_notes() -> None:
    stage = LiveSession("word")
    searching = asyncio.create_task(stage.session.keep_searching())
    await stage.turn()
    stage.end_search(0, notes=["docs: 1 file is not indexed yet"])
    await stage.turn()
    assert "not indexed yet" in stage.screen
    searching.cancel()


class Tty:
    def isatty(self) -> bool:
        return True


def test_cursor_editing_in_interactive_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("xdg-open", "my-editor"):
        (tmp_path / name).write_text(
            f'#!/bin/sh\nprintf "%s\\n" {name} "$@" >{tmp_path}/$$.new\n'
            f"mv {tmp_path}/$$.new {tmp_path}/said\n"
        )
        (tmp_path / name).chmod(0o700)
    monkeypatch.setattr("sys.stdin", Tty())
    monkeypatch.setattr("sys.stdout", Tty())
    open_or_print(Path("/srv/a b"), {"VISUAL": f"{tmp_path}/my-editor -f", "PATH": "/usr/bin:/bin"})
    assert (tmp_path / "said").read_text() == "my-editor\n-f\n/srv/a b\n"
    (tmp_path / "said").unlink()
    open_or_print(Path("/srv/a b"), {"DISPLAY": ":0", "PATH": f"{tmp_path}:/usr/bin:/bin"})
    while not (tmp_path / "said").exists():
        os.sched_yield()
    assert (tmp_path / "said").read_text() == "xdg-open\n/srv/a b\n"
