"""Checks of the service behind a mirror: connection, clock, key, knowledge base, quota."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbsync import __version__
from kbsync.cli.commands.doctor.command import CheckResult, Grade, failed_check, read_only, warning, wrong
from kbsync.cli.context import unmade
from kbsync.cli.exit_codes import Code
from kbsync.config.model import MirrorConfig
from kbsync.contract.promises import describe_unkept
from kbsync.contract.target import Target
from kbsync.core.text import format_count, format_size, printable, shell_word
from kbsync.errors import Halted, Rejected, TargetError, UsageError, system_reason
from kbsync.installation import Installation
from kbsync.state import lock
from kbsync.threads import run_coroutine

if TYPE_CHECKING:
    from kbsync.targets.http.connection import Endpoint


CLOCK_TOLERANCE = 60.0
"""Maximum difference between the clocks, in seconds; signed keys tolerate a few minutes."""

CONNECT_TIMEOUT = 6.0
CERTIFICATE_DAYS = 14
NEARLY_FULL = 0.95


def service(installation: Installation, mirror: MirrorConfig) -> Iterator[CheckResult]:
    """Check the connection to each service and, if all of them respond, the knowledge base."""
    from kbsync.targets.http.connection import Endpoint

    # A built-in knowledge base may use services for vectors and ranking, or none.
    for service in mirror.target.services:
        proxy = service.proxy.reveal() if service.proxy else None
        results = list(_check_route(Endpoint(service.base_url, ca_file=service.ca_file, proxy=proxy)))
        yield from results
        if any(result.grade is Grade.WRONG for result in results):
            return

    async def check_base() -> list[CheckResult]:
        with unmade(installation.narrow(mirror.name)):
            target = await asyncio.to_thread(installation.target_or_stand_in, mirror)
        async with aclosing(target):
            results = [result async for result in _check_base(installation, mirror, target)]
        # From the service's `Date` header.
        if (offset := target.clock_offset) is None:
            return results
        side = "behind" if offset > 0 else "ahead of"
        difference = f"this machine's clock is {abs(offset):,.0f} s {side} the service's"
        detail = f"{difference}; signed keys may be refused"
        if abs(offset) <= CLOCK_TOLERANCE:
            return [*results, CheckResult("clock", "in sync with the service")]
        return [*results, warning("clock", detail, "sudo timedatectl set-ntp true")]

    try:
        yield from run_coroutine(check_base())
    except Halted as error:
        yield _halt_result(installation, mirror, error)
    except Exception as error:
        yield failed_check("knowledge base", error)
    yield from _check_models(mirror)


def _check_models(mirror: MirrorConfig) -> Iterator[CheckResult]:
    """Send a short text to the embedding service and, if there is one, to the reranker, to check the key and
    the model.
    """
    from kbsync.targets.indexed.config import IndexedTargetConfig
    from kbsync.targets.services.blocking import ServiceEncoder, ServiceRanker
    from kbsync.targets.services.clients import refuses_everything
    from kbsync.targets.services.config import SERVICES

    if not isinstance(mirror.target, IndexedTargetConfig):
        return
    embedding, rerank = mirror.target.embedding, mirror.target.rerank
    if embedding.type in SERVICES:
        subject = "embedding service"
        try:
            with closing(ServiceEncoder(embedding)) as encoder:
                numbers = len(encoder.query("kbsync"))
            served = f"{embedding.type} {embedding.model}".strip()
            yield CheckResult(subject, f"{served} returns vectors with {numbers:,} dimensions")
        except (TargetError, UsageError) as error:
            cause = refuses_everything(error) if isinstance(error, Rejected) else error
            if isinstance(cause, Halted):
                yield wrong(subject, cause.reason, cause.fix, Code.PERSON)
            else:
                yield failed_check(subject, cause)
    if rerank.type in SERVICES:
        subject = "ranking model"
        try:
            with closing(ServiceRanker(rerank)) as ranker:
                ranker.order("kbsync", ["kbsync"])
            yield CheckResult(subject, f"{rerank.type} {rerank.model}".strip() + " responds")
        except (TargetError, UsageError) as error:
            # Mirroring and searches work without it.
            yield warning(subject, str(error), error.fix if isinstance(error, Halted) else "")


def promises(mirror: MirrorConfig) -> Iterator[CheckResult]:
    """Yield a result for each promise that the mirror's target can't keep, which users can't change."""
    for subject, sentence in describe_unkept(mirror.target.unkept):
        yield CheckResult(subject, sentence)


def cluster(mirror: MirrorConfig) -> Iterator[CheckResult]:
    """Check the Dask cluster that prepares the mirror's documents, if any.

    The cluster must respond, and the workers must match this host.
    """
    if mirror.prepare is None:
        return
    from kbsync.index.cluster.client import DaskCluster

    with closing(DaskCluster(mirror.prepare.cluster, CONNECT_TIMEOUT)) as client:
        try:
            state = client.state()
        except TargetError as error:
            yield failed_check("cluster", error)
            return
    fix = f"install kbsync {__version__} on every worker in the cluster, then restart the workers"
    yield from (wrong("cluster", reason, fix, Code.PERSON) for reason in state.unfit)
    detail = f"{format_count(state.workers, 'worker')}, {format_count(state.threads, 'thread')}"
    if not state.workers:
        yield wrong("cluster", detail, f"dask worker {mirror.prepare.dask}", Code.PASSING)
    elif not state.unfit:
        yield CheckResult("cluster", f"{mirror.prepare.dask} has {detail}")


def _check_route(endpoint: Endpoint) -> Iterator[CheckResult]:
    from kbsync.targets.http import connection

    trust, url = connection.trusted(endpoint), connection.origin(endpoint)
    try:
        proxy = connection.proxy_host(endpoint, trust)
    except connection.UnusableProxyError as error:
        fix = f"set proxy: in the config to an http proxy, or add {url.host} to NO_PROXY"
        yield wrong("proxy", str(error).partition(";")[0], fix, Code.PASSING)
        return
    host, _, port = proxy.rpartition(":") if ":" in proxy else (proxy or url.host, "", "")
    host, number = host or proxy, int(port) if port.isdecimal() else url.port
    try:
        resolved = socket.getaddrinfo(host.strip("[]"), number or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        fix = f"getent ahosts {shell_word(host)}"
        yield wrong("DNS", f"{host} does not resolve ({system_reason(error)})", fix, Code.PASSING)
        return
    addresses = sorted({str(address[0]) for *_, address in resolved})
    yield CheckResult("DNS", f"{host} resolves to {', '.join(addresses[:3])}")
    if not proxy:
        # Behind a proxy, only a request by the target shows whether it can be reached.
        yield from _check_connection(endpoint, trust)


def _check_connection(endpoint: Endpoint, trust: ssl.SSLContext) -> Iterator[CheckResult]:
    """Check the connection and its certificate, without sending a request.

    A request would need one of the service's valid URLs.
    """
    from kbsync.targets.http import connection
    from kbsync.targets.http.errors import CERTIFICATE_DATES

    url, is_secure = connection.origin(endpoint), endpoint.base_url.startswith("https:")
    subject = "TLS" if is_secure else "connection"
    address = (url.host, url.port or (443 if is_secure else 80))
    try:
        with socket.create_connection(address, CONNECT_TIMEOUT) as plain:
            if not is_secure:
                yield CheckResult(subject, f"{endpoint.base_url} is reachable")
                return
            with trust.wrap_socket(plain, server_hostname=url.host) as secured:
                certificate, version = secured.getpeercert() or {}, secured.version()
    except ssl.SSLCertVerificationError as error:
        fix = "set ca_file: in the config to the service's CA certificate, or fix base_url"
        if error.verify_code in CERTIFICATE_DATES:
            fix = "ask the service's operator to renew the certificate, or correct this machine's clock"
        detail = f"the certificate of {endpoint.base_url} is not trusted ({error.verify_message})"
        yield wrong(subject, detail, fix, Code.PASSING)
        return
    except OSError as error:
        is_late = isinstance(error, TimeoutError)
        why = f"no response within {CONNECT_TIMEOUT:g} s" if is_late else system_reason(error)
        fix = f"curl -sSI {shell_word(endpoint.base_url)}"
        yield wrong(subject, f"{endpoint.base_url} cannot be reached ({why})", fix, Code.PASSING)
        return
    days = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) / 86400
    detail = f"{endpoint.base_url} is reachable over {version}"
    if days < CERTIFICATE_DAYS:
        detail = f"{detail}; its certificate expires in {days:.0f} days"
        yield warning(subject, detail, "ask the service's operator to renew the certificate")
    else:
        yield CheckResult(subject, detail)


async def _check_base(
    installation: Installation, mirror: MirrorConfig, target: Target
) -> AsyncIterator[CheckResult]:
    """Check the key and the knowledge base, and report how much of the account's space is used, in the
    target's own units.
    """
    subject, is_remote = "knowledge base", not target.limits.embedded
    try:
        base = await target.base()
    except Halted as error:
        if is_remote and error.halt != "credentials":
            # The service responded and accepted the key, so the error is about something else.
            yield CheckResult("key", "accepted")
        yield _halt_result(installation, mirror, error)
        return
    except TargetError as error:
        yield failed_check(subject, error)
        return
    if is_remote:
        yield CheckResult("key", "accepted")
    folder = installation.embedded_base(mirror)
    if folder is not None and (problem := _find_obstacle_to_writing(subject, folder)):
        yield problem
        return
    held = "" if base.documents is None else format_count(base.documents, "document")
    yield CheckResult(subject, ", ".join(filter(None, (f"{mirror.target.type} {base.id}".strip(), held))))
    try:
        room = await target.capacity()
    except Rejected:
        return
    except TargetError as error:
        yield failed_check("quota", error)
        return
    if room is None:
        return  # the service doesn't say
    detail = f"{format_size(room.used)} of {format_size(room.total)} used"
    parts = [(room.used, room.total)]
    if room.used_words is not None and room.total_words is not None:
        detail = f"{detail}, {room.used_words:,} of {room.total_words:,} words"
        parts.append((room.used_words, room.total_words))
    fix = f"delete documents on {base.address}, or get more space"
    if any(used >= total for used, total in parts):
        yield wrong("quota", f"{detail}: full", fix, Code.PERSON)
    elif any(used > NEARLY_FULL * total for used, total in parts):
        yield warning("quota", detail, fix)
    else:
        yield CheckResult("quota", detail)


def _find_obstacle_to_writing(subject: str, folder: Path) -> CheckResult | None:
    """Return what prevents a pass from writing into the folder of a built-in knowledge base."""
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not nearest.is_dir():
        return wrong(subject, lock.describe_misplaced(nearest, "directory"), "", Code.PASSING)
    return read_only(subject, folder, Code.PERSON)


def _halt_result(installation: Installation, mirror: MirrorConfig, error: Halted) -> CheckResult:
    """Return a result for the halt, with the fix that a pass would suggest.

    If the service refused the key, also say where the key comes from.
    """
    from kbsync.engine.status import as_halt, with_retry_command

    write, at_work = installation.command_line, lock.is_held(installation.state_dir)
    fix = with_retry_command(as_halt(error, mirror.name, write), mirror.name, write, at_work=at_work).fix
    if error.halt != "credentials":
        return wrong("knowledge base", error.reason, fix, Code.PERSON)
    detail = "; ".join(filter(None, (error.reason, _key_setting(installation, mirror))))
    return wrong("key", detail, fix, Code.PERSON)


def _key_setting(installation: Installation, mirror: MirrorConfig) -> str:
    """Return where the key comes from (for example, `api_key comes from the variable ZHIPU_API_KEY`), or ""
    if unknown.

    This doesn't read the key itself.
    """
    from kbsync.config.yaml import UnreadableConfig, read_yaml

    file = installation.config.path
    if file is None:
        return ""
    try:
        config: Any = read_yaml(file.read_text("utf-8-sig")).value
        target = next(block["target"] for block in config["mirrors"] if block["name"] == mirror.name)
        if target.get("api_key_file") is not None:
            return f"api_key_file is {printable(str(target['api_key_file']))}"
        names = re.findall(r"\$\{(\w+)", target["api_key"])
    except (OSError, ValueError, UnreadableConfig, LookupError, TypeError, AttributeError, StopIteration):
        # The config was valid when it was read, but has since changed.
        return ""
    return f"api_key comes from the variable {', '.join(names)}" if names else f"api_key is written in {file}"
