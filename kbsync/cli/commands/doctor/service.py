"""Where the key of a mirror's service comes from, for whoever has to mend it. The key itself is not read.

The services behind a mirror: the way there, the clock, and what the target tells of itself.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.cli.commands.doctor.command import CheckResult, Grade, troubled, warning, wrong
from kbsync.cli.context import unmade
from kbsync.cli.exit_codes import Code
from kbsync.cli.output import counted
from kbsync.config.model import MirrorConfig
from kbsync.config.target import RemoteTargetConfig
from kbsync.contract.managing import ManagesBases
from kbsync.contract.target import Base, Target
from kbsync.core.text import printable, shell_word, sized
from kbsync.errors import Halted, Rejected, TargetError
from kbsync.installation import Installation
from kbsync.state import lock

if TYPE_CHECKING:
    from kbsync.config.yaml import Value
    from kbsync.targets.http.connection import Endpoint


def key_setting(config_file: Path | None, mirror: str) -> str:
    """Such as `api_key is the variable ZHIPU_API_KEY`; '' where the config does not tell."""
    target = {} if config_file is None else _target(config_file, mirror)
    file, key = target.get("api_key_file"), target.get("api_key")
    if file is not None:
        return f"api_key_file is {printable(str(file))}"
    if not isinstance(key, str):
        return ""
    names = re.findall(r"\$\{(\w+)", key)
    if names:
        return f"api_key is the variable {', '.join(names)}"
    return f"api_key is written in {printable(str(config_file))}"


def _target(config_file: Path, mirror: str) -> dict[str, Value]:
    """The block as it is written; empty where the file cannot be read any more."""
    from kbsync.config.yaml import UnreadableConfig, read_yaml

    try:
        config = read_yaml(config_file.read_text("utf-8")).value
    except (OSError, UnicodeError, UnreadableConfig):
        return {}
    mirrors = config.get("mirrors") if isinstance(config, dict) else None
    for each in mirrors if isinstance(mirrors, list) else ():
        if isinstance(each, dict) and each.get("name") == mirror and isinstance(each.get("target"), dict):
            target = each["target"]
            assert isinstance(target, dict)
            return target
    return {}


CLOCK_APART = 60.0
"""Seconds from which on clocks are told to differ; signed keys bear a few minutes."""

ANSWER_WITHIN = 6.0
CERTIFICATE_DAYS = 14
NEARLY_FULL = 0.95


def services(mirror: MirrorConfig) -> list[Endpoint]:
    """Where the mirror's requests go; empty for one that needs no network."""
    from kbsync.targets.http.connection import Endpoint

    target = mirror.target
    if not isinstance(target, RemoteTargetConfig):
        return [Endpoint(address) for address in target.addresses]
    proxy = target.proxy.reveal() if target.proxy else None
    return [Endpoint(target.base_url, ca_file=target.ca_file, proxy=proxy)]


def service(installation: Installation, mirror: MirrorConfig) -> Iterator[CheckResult]:
    """The way to each service, then the knowledge base; what cannot be reached is asked nothing."""
    for endpoint in services(mirror):
        found = list(_way(mirror, endpoint))
        yield from found
        if any(one.grade is Grade.WRONG for one in found):
            return
    yield from _told(installation, mirror)


def _way(mirror: MirrorConfig, endpoint: Endpoint) -> Iterator[CheckResult]:
    from kbsync.targets.http import connection

    trust = connection.trusted(endpoint)
    proxy = connection.proxy_host(endpoint, trust)
    url = connection.origin(endpoint)
    host, _, port = proxy.rpartition(":") if ":" in proxy else (proxy or url.host, "", "")
    named = _named(mirror, host or proxy, int(port) if port.isdecimal() else url.port)
    yield named
    if named.grade is not Grade.WRONG and not proxy:  # behind a proxy the target itself has to try
        yield from _reached(endpoint, trust, mirror)


def _named(mirror: MirrorConfig, host: str, port: int | None) -> CheckResult:
    subject = f"{mirror.name}: DNS"
    try:
        found = socket.getaddrinfo(host.strip("[]"), port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        cure = f"getent ahosts {shell_word(host)}"
        return wrong(subject, f"{host} has no address ({why.lower()})", cure, Code.PASSING)
    addresses = sorted({str(address[0]) for *_, address in found})
    return CheckResult(subject, f"{host} is {', '.join(addresses[:3])}")


def _reached(endpoint: Endpoint, trust: ssl.SSLContext, mirror: MirrorConfig) -> Iterator[CheckResult]:
    """A connection, and who answers it: no request, which would have to be one the service knows."""
    from kbsync.targets.http import connection

    url, is_secure = connection.origin(endpoint), endpoint.base_url.startswith("https:")
    subject = f"{mirror.name}: {'TLS' if is_secure else 'connection'}"
    address = (url.host, url.port or (443 if is_secure else 80))
    try:
        with socket.create_connection(address, ANSWER_WITHIN) as plain:
            if is_secure:
                with trust.wrap_socket(plain, server_hostname=url.host) as secured:
                    yield _proven(subject, endpoint, secured)
            else:
                yield CheckResult(subject, f"{endpoint.base_url} answers")
    except OSError as error:
        yield _unreached(subject, endpoint, error)


def _proven(subject: str, endpoint: Endpoint, secured: ssl.SSLSocket) -> CheckResult:
    certificate = secured.getpeercert() or {}
    days = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) / 86400
    detail = f"{endpoint.base_url} answers with {secured.version()}"
    if days < CERTIFICATE_DAYS:
        return warning(
            subject, f"{detail}; its certificate ends in {days:.0f} days", "tell the operator of the service"
        )
    return CheckResult(subject, detail)


def _unreached(subject: str, endpoint: Endpoint, error: OSError) -> CheckResult:
    if isinstance(error, ssl.SSLCertVerificationError):
        cure = "name the authority with ca_file: in the config, or correct base_url"
        detail = f"the certificate of {endpoint.base_url} is not trusted ({error.verify_message})"
        return wrong(subject, detail, cure, Code.PASSING)
    why = (error.strerror or str(error) or f"no answer within {ANSWER_WITHIN:g} s").lower()
    cure = f"curl -sSI {shell_word(endpoint.base_url)}"
    return wrong(subject, f"{endpoint.base_url} cannot be reached ({why})", cure, Code.PASSING)


def _clock(mirror: MirrorConfig, target: Target) -> Iterator[CheckResult]:
    """By the service's own `Date`."""
    if target.clock_apart is None:
        return
    subject, apart = f"{mirror.name}: clock", target.clock_apart
    if abs(apart) <= CLOCK_APART:
        yield CheckResult(subject, "agrees with the service's")
        return
    side = "behind" if apart > 0 else "ahead of"
    detail = f"this machine is {abs(apart):,.0f} s {side} the service, which may refuse signed keys"
    yield warning(subject, detail, "sudo timedatectl set-ntp true")


def _told(installation: Installation, mirror: MirrorConfig) -> Iterator[CheckResult]:
    """In the target's own words."""

    async def look() -> list[CheckResult]:
        with unmade(installation):
            target = await asyncio.to_thread(installation.target_or_stand_in, mirror)
        async with aclosing(target):
            found = [finding async for finding in _looked_at(installation, mirror, target)]
            return [*found, *_clock(mirror, target)]

    try:
        yield from asyncio.run(look())
    except Halted as error:
        yield _halted(installation, mirror, error)
    except Exception as error:
        yield troubled(f"{mirror.name}: knowledge base", error)


async def _looked_at(
    installation: Installation, mirror: MirrorConfig, target: Target
) -> AsyncIterator[CheckResult]:
    subject, is_remote = f"{mirror.name}: knowledge base", not target.limits.embedded
    try:
        base = await target.base()
    except Halted as error:
        if is_remote and error.halt != "credentials":
            yield CheckResult(f"{mirror.name}: key", "taken")
        yield _halted(installation, mirror, error)
        return
    except TargetError as error:
        yield troubled(subject, error)
        return
    if is_remote:
        yield CheckResult(f"{mirror.name}: key", "taken")
    yield CheckResult(subject, _described(mirror, base))
    if isinstance(target, ManagesBases):
        async for finding in _room(mirror, target):
            yield finding


def _halted(installation: Installation, mirror: MirrorConfig, error: Halted) -> CheckResult:
    """With a cure as a pass tells it, and of a key also where it comes from."""
    from kbsync.engine.terms import as_halt

    cure = as_halt(error, lambda command: _pasted(installation, mirror, command)).cure
    if error.halt != "credentials":
        return wrong(f"{mirror.name}: knowledge base", error.reason, cure, Code.PERSON)
    said = "; ".join(filter(None, (error.reason, key_setting(installation.config.path, mirror.name))))
    return wrong(f"{mirror.name}: key", said, cure, Code.PERSON)


def _pasted(installation: Installation, mirror: MirrorConfig, command: str) -> str:
    """Where no kbsync is at work a pass is all there is to ask for."""
    is_retry = command == f"retry --mirror {mirror.name}" and not lock.is_held(installation.state_dir)
    return installation.cure(f"--once --mirror {mirror.name}" if is_retry else command)


def _described(mirror: MirrorConfig, base: Base) -> str:
    known = (f"{mirror.target.type} {base.id}".strip(), _counted(base.documents))
    return ", ".join(filter(None, known))


def _counted(documents: int | None) -> str:
    return "" if documents is None else counted(documents, "document")


async def _room(mirror: MirrorConfig, target: ManagesBases) -> AsyncIterator[CheckResult]:
    """Where the service tells: some do not."""
    try:
        room = await target.bases.room()
    except Rejected:
        return
    except TargetError as error:
        yield troubled(f"{mirror.name}: quota", error)
        return
    if room is None:
        return
    subject, detail = f"{mirror.name}: quota", f"{sized(room.used)} of {sized(room.total)} used"
    parts = [(room.used, room.total)]
    if room.used_words is not None and room.total_words is not None:
        detail = f"{detail}, {room.used_words:,} of {room.total_words:,} words"
        parts.append((room.used_words, room.total_words))
    cure = f"delete documents at {target.bases.address}, or get more space for the account"
    if any(used >= total for used, total in parts):
        yield wrong(subject, f"{detail}: full", cure, Code.PERSON)
    elif any(used > NEARLY_FULL * total for used, total in parts):
        yield warning(subject, detail, cure)
    else:
        yield CheckResult(subject, detail)
