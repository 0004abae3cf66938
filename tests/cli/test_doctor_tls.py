"""What `kbsync doctor` says of the certificate that a service shows."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.cli.commands.doctor import service
from kbsync.cli.commands.doctor.command import CheckResult, Grade
from kbsync.config.model import folder_config
from kbsync.targets.http import connection as wire
from kbsync.targets.http.connection import Endpoint
from tests.targets.http.authorities import Authority, authority

MIRROR = folder_config(Path("/srv/docs")).mirrors[0]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


@contextlib.contextmanager
def shaking_hands(context: ssl.SSLContext) -> Iterator[int]:
    """A server that shows its certificate once and says no more; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def shake() -> None:
            connection, _ = listening.accept()
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1)

        thread = threading.Thread(target=shake)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def reached(host: str, port: int, ca_file: Path | None) -> CheckResult:
    endpoint = Endpoint(f"https://{host}:{port}", ca_file=ca_file)
    [found] = service._reached(endpoint, wire.trusted(endpoint), MIRROR)
    return found


def test_a_certificate_that_ends_soon_is_a_warning(ours: Authority) -> None:
    with shaking_hands(ours.server) as port:
        found = reached("127.0.0.1", port, ours.ca_file)
    assert (found.subject, found.grade) == ("docs: TLS", Grade.WARNING)
    assert "TLSv1.3" in found.detail
    assert f"https://127.0.0.1:{port} answers" in found.detail
    assert "expires in 2 days" in found.detail
    assert found.cure == "tell the operator of the service"


def test_one_that_lasts_is_well(ours: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CERTIFICATE_DAYS", 1)
    with shaking_hands(ours.server) as port:
        assert reached("127.0.0.1", port, ours.ca_file).grade is Grade.OK


@pytest.mark.parametrize("is_named", [False, True])
def test_one_that_is_not_trusted_comes_with_the_cure(ours: Authority, is_named: bool) -> None:
    """Of an authority nobody named, or for another name."""
    with shaking_hands(ours.server) as port:
        found = reached("localhost" if is_named else "127.0.0.1", port, ours.ca_file if is_named else None)
    assert (found.grade, int(found.code)) == (Grade.WRONG, 4)
    assert "is not trusted" in found.detail
    assert "ca_file:" in found.cure
