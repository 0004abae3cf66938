"""The daemon is called back by the stand-in, as documented and otherwise."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.config.reader import load
from kbsync.config.target import callback_url
from kbsync_standin.faults import Fault
from tests.cli.place import eventually
from tests.cli.test_listener import listen
from tests.cli.vendor import Desk, desk_in, digests_in
from tests.ports import free_port

FORMS = ("never", "twice", "other", "status", "late", "slow", "malformed")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_in(tmp_path) as desk:
        yield desk


def called_at(desk: Desk) -> str:
    """Have the mirror listen for calls; where they go."""
    port = free_port()
    desk.aim(target=f"callback_base: http://127.0.0.1:{port}")
    listen(desk, f"{{listen: 127.0.0.1:{port}}}")
    [mirror] = load(desk.config, {}).mirrors
    url = callback_url(mirror)
    assert url is not None
    return url


def test_calls_of_every_kind_are_answered_and_documents_are_mirrored_all_the_same(desk: Desk) -> None:
    url = called_at(desk)
    faults = desk.vendor.server.faults
    for form in FORMS:
        faults.add(Fault("callback", match=f"{form}~*", args={"form": form, "seconds": 0.5}))
        desk.write(f"{form}.md", f"text of {form}")
    desk.write("plain.md", "text of plain")
    sent = desk.vendor.server.outbox.sent
    daemon = desk.watch()
    eventually(lambda: desk.vendor.digests() == digests_in(desk.docs))
    eventually(lambda: desk.status()["documents"]["ready"] == len(FORMS) + 1)
    eventually(lambda: len(sent) == len(FORMS) + 1)  # one is never sent, another twice
    assert {(each.status, json.loads(each.body)["code"]) for each in sent} == {(200, 200)}

    wrong = urllib.request.Request(f"{url[:-1]}x", b"{}", method="POST")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(wrong, timeout=60)
    kept = [line for line in desk.config.read_text().splitlines() if "callback_base" not in line]
    desk.config.write_text("\n".join(kept))
    daemon.tell(signal.SIGHUP)
    daemon.says("config.read")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(urllib.request.Request(url, b"{}", method="POST"), timeout=60)
    assert daemon.end() == 0
    secret = url.rpartition("/")[2].encode()
    assert [path for path in desk.root.rglob("*") if path.is_file() and secret in path.read_bytes()] == []
    assert desk.vendor.violations() == []


def test_a_single_pass_asks_nobody_to_call(desk: Desk) -> None:
    """There is no listener, and adding or removing the address sends nothing again."""
    port = free_port()
    desk.write("a.md", "alpha")
    desk.once()
    desk.aim(target=f"callback_base: http://127.0.0.1:{port}")
    listen(desk, f"{{listen: 127.0.0.1:{port}}}")
    desk.write("b.md", "bravo")
    assert desk.once()["uploaded"] == 1
    assert list(desk.vendor.server.outbox.sent) == []
