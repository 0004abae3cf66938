"""The daemon is called back by the stand-in, as documented and otherwise."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request

import pytest

from kbsync.config.reader import load
from kbsync.config.target import callback_url
from kbsync_standin.faults import Fault
from tests.cli.place import eventually
from tests.cli.test_listener import listen
from tests.cli.vendor import ZhipuPlace, digests_in
from tests.ports import free_port

FORMS = ("never", "twice", "other", "status", "late", "slow", "malformed")


def called_at(zhipu: ZhipuPlace) -> str:
    """Have the mirror listen for calls; where they go."""
    port = free_port()
    zhipu.aim(target=f"callback_base: http://127.0.0.1:{port}")
    listen(zhipu, f"{{listen: 127.0.0.1:{port}}}")
    [mirror] = load(zhipu.config, {}).mirrors
    url = callback_url(mirror)
    assert url is not None
    return url


def test_calls_of_every_kind_are_answered_and_documents_are_mirrored_all_the_same(zhipu: ZhipuPlace) -> None:
    url = called_at(zhipu)
    faults = zhipu.vendor.server.faults
    for form in FORMS:
        faults.add(Fault("callback", match=f"{form}~*", args={"form": form, "seconds": 0.5}))
        zhipu.write(f"{form}.md", f"text of {form}")
    zhipu.write("plain.md", "text of plain")
    sent = zhipu.vendor.server.outbox.sent
    daemon = zhipu.watch()
    eventually(lambda: zhipu.vendor.digests() == digests_in(zhipu.docs))
    eventually(lambda: zhipu.status()["documents"]["ready"] == len(FORMS) + 1)
    eventually(lambda: len(sent) == len(FORMS) + 1)  # one is never sent, another twice
    assert {(each.status, json.loads(each.body)["code"]) for each in sent} == {(200, 200)}

    wrong = urllib.request.Request(f"{url[:-1]}x", b"{}", method="POST")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(wrong, timeout=60)
    kept = [line for line in zhipu.config.read_text().splitlines() if "callback_base" not in line]
    zhipu.config.write_text("\n".join(kept))
    daemon.tell(signal.SIGHUP)
    daemon.says("config.read")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(urllib.request.Request(url, b"{}", method="POST"), timeout=60)
    assert daemon.end() == 0
    secret = url.rpartition("/")[2].encode()
    assert [path for path in zhipu.root.rglob("*") if path.is_file() and secret in path.read_bytes()] == []
    assert zhipu.vendor.violations() == []


def test_a_single_pass_asks_nobody_to_call(zhipu: ZhipuPlace) -> None:
    """There is no listener, and adding or removing the address sends nothing again."""
    port = free_port()
    zhipu.write("a.md", "alpha")
    zhipu.once()
    zhipu.aim(target=f"callback_base: http://127.0.0.1:{port}")
    listen(zhipu, f"{{listen: 127.0.0.1:{port}}}")
    zhipu.write("b.md", "bravo")
    assert zhipu.once()["uploaded"] == 1
    assert list(zhipu.vendor.server.outbox.sent) == []
