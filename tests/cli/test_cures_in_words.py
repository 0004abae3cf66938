"""What no command can cure is said in words that name the key, the file or the place."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from kbsync.cli.exit_codes import _CURES, sentence_of
from kbsync.errors import StateError, UsageError
from kbsync.index.errors import trouble_with_scratch
from kbsync.server import app
from kbsync.server.listener import bind_sockets
from kbsync.source import roots
from kbsync.state import db
from kbsync_standin.faults import Fault
from kbsync_standin.server import Server
from kbsync_standin.vectors import application
from tests.cli.place import Place

KEY = "id.secret-for-tests"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(application(KEY))
    with server.in_thread():
        yield server


@pytest.mark.parametrize(
    ("kind", "args", "reason", "says"),
    [
        ("refused", {"status": 401}, "credentials", "put a valid embedding.api_key (or api_key_file) into"),
        ("refused", {"status": 402}, "quota", "top up the account behind embedding.api_key"),
        ("refused", {"code": "insufficient_quota"}, "quota", "top up the account behind embedding.api_key"),
        (
            "refused",
            {"status": 404},
            "embedding-missing",
            "correct embedding.base_url (it is what comes before /embeddings) or embedding.model",
        ),
        ("refused", {"status": 403}, "credentials", "put an embedding.api_key that may use the model into"),
        (
            "refused",
            {},
            "embedding-missing",
            "correct embedding.model, embedding.dimensions or",
        ),
        ("own-length", {}, "embedding-dimensions", "correct embedding.dimensions or embedding.model"),
    ],
)
def test_what_is_wrong_with_a_service_of_vectors_names_the_key_of_the_config(
    place: Place, server: Server, kind: str, args: dict[str, Any], reason: str, says: str
) -> None:
    place.write("a.md", "alpha")
    service = {"type": "openai", "base_url": f"{server.url}/openai/v1", "api_key": KEY, "model": "words"}
    target = {"type": "local", "embedding": {**service, "dimensions": 32}}
    place.configure(f"target: {json.dumps(target)}")
    server.faults.add(Fault(kind, op="*", times=0, args=args))
    assert place.run("--once").code == 3
    [mirror] = place.run("status", "--json").json["mirrors"]
    assert (mirror["halt"]["reason"], says in mirror["halt"]["cure"]) == (reason, True), mirror["halt"]
    server.faults.clear()
    assert place.run("--once").code == 0


@pytest.mark.parametrize("number", {*_CURES, *roots._CURES}, ids=lambda number: errno.errorcode[number])
def test_an_error_of_the_system_names_the_place(tmp_path: Path, number: int) -> None:
    error = OSError(number, os.strerror(number), str(tmp_path / "it"))
    told = [sentence_of(error)] if number in _CURES else []
    if number in roots._CURES:
        told.append(str(trouble_with_scratch(error)))
    for sentence in told:
        assert sentence.startswith(f"{tmp_path}/it: {os.strerror(number).lower()}; ")
    cures = {_CURES.get(number, "").removeprefix("; "), roots._CURES.get(number, "")}
    assert {sentence.partition("; ")[2] for sentence in told} <= cures


def test_a_disk_without_inodes_is_told_with_what_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "lacks_inodes", lambda _place: True)
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "it"))
    assert sentence_of(error) == f"{tmp_path}/it: no space left on device; free some inodes (df -i)"


@pytest.mark.parametrize(
    ("lacking", "says"),
    [
        ("nothing", "; check its owner and mode"),
        ("inodes", "; no free inode is left there (df -i); free some"),
        ("descriptors", "; too many open files; raise the limit of open files (ulimit -n, LimitNOFILE=)"),
    ],
)
def test_a_state_that_cannot_be_opened_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str, says: str
) -> None:
    monkeypatch.setattr(db, "lacks_inodes", lambda _place: lacking == "inodes")

    def dup(_number: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    with pytest.raises(StateError) as told, pytest.MonkeyPatch.context() as patch:
        if lacking == "descriptors":
            patch.setattr(db.os, "dup", dup)
        with db.state_errors(tmp_path / "state.db"):
            raise apsw.CantOpenError("unable to open database file")
    assert str(told.value).startswith(f"{tmp_path}/state.db cannot be opened (")
    assert says in str(told.value)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EACCES, "may not be used by this user; choose a port from 1024 on"),
        (errno.ENOBUFS, "cannot be listened on (no buffer space available); choose another"),
    ],
)
def test_an_address_that_cannot_be_had_names_the_key(
    monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    def refuse(_socket: socket.socket, _address: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(UsageError) as told:
        bind_sockets("127.0.0.1", 80)
    assert str(told.value) == f"http.listen: 127.0.0.1:80 {says}"


def test_who_sees_the_page_without_its_script_is_told_which_options_to_add() -> None:
    """The page is shown to strangers, too: it cannot have them."""
    said = app.content("page.html").decode().partition("<noscript>")[2].partition("</noscript>")[0]
    assert "<code>kbsync status</code>, with the options that kbsync was started with" in said
