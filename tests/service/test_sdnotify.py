"""Tests what reaches a real notify socket, and what happens if nobody listens."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from kbsync.systemd import ServiceManager
from tests.service.manager import Manager, manager_in


def test_message_is_sent_in_one_datagram(tmp_path: Path) -> None:
    with manager_in(tmp_path) as manager:
        notifier = ServiceManager({"NOTIFY_SOCKET": manager.address})
        notifier.send("RELOADING=1", "MONOTONIC_USEC=5")
        assert manager.until("RELOADING") == "RELOADING=1"
        assert manager.messages == ["RELOADING=1", "MONOTONIC_USEC=5"]
        notifier.close()
        notifier.send("READY=1")
        assert manager.so_far() == ["RELOADING=1", "MONOTONIC_USEC=5"]


def test_abstract_socket_name_is_supported(tmp_path: Path) -> None:
    manager = Manager(f"@kbsync-test-{os.getpid()}")
    notifier = ServiceManager({"NOTIFY_SOCKET": manager.address})
    notifier.send("READY=1")
    assert manager.until("READY") == "READY=1"
    notifier.close()
    manager.close()


@pytest.mark.parametrize("name", ["", "relative/socket", "vsock:2:1234", "/nowhere/notify"])
def test_missing_listener_loses_only_the_messages(name: str) -> None:
    notifier = ServiceManager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "60000000"})
    notifier.send("READY=1")
    assert notifier.is_present is (name == "/nowhere/notify")
    assert (notifier.watchdog is None) is not notifier.is_present
    notifier.close()


def test_manager_that_reads_nothing_blocks_nobody(tmp_path: Path) -> None:
    with manager_in(tmp_path) as manager:
        notifier = ServiceManager({"NOTIFY_SOCKET": manager.address})
        full = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        full.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                full.sendto(b"X=1", manager.address)
        full.close()
        notifier.send("WATCHDOG=1", patience=0.0)
        assert "WATCHDOG=1" not in manager.so_far()
        notifier.send("WATCHDOG=1", patience=0.0)
        assert "WATCHDOG=1" in manager.so_far()
        notifier.close()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),  # meant for another process
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_watchdog_is_served_only_by_its_process(environ: dict[str, str], seconds: float | None) -> None:
    notifier = ServiceManager({"NOTIFY_SOCKET": "/nowhere/notify", **environ})
    assert notifier.watchdog == seconds
    notifier.close()
