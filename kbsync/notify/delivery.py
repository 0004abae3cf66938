"""Delivers a notice by a command or by a POST, bounded in time; no log has anything of it or its address."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kbsync import __version__
from kbsync.notify.notice import Notice

if TYPE_CHECKING:
    import httpx

LIMIT = 10.0
"""Seconds for a command or a request, all in all."""

AT_ONCE = 2.0
"""Seconds for a command to be gone that was killed."""


class Undelivered(Exception):
    """Whoever was to be told was not; `str()` says why, and repeats neither arguments nor address."""


def body_of(notice: Notice) -> bytes:
    """One JSON document on one line."""
    return (json.dumps(notice.to_json(), ensure_ascii=False) + "\n").encode("utf-8", "replace")


async def run(command: Sequence[str], body: bytes, limit: float = LIMIT) -> None:
    """Run a command with `body` on stdin, in a process group of its own that ends with the time.

    Raises `Undelivered` where it cannot be run, takes longer than `limit` seconds or exits with a failure.
    """
    try:
        process = await _begun(command)
    except OSError as error:
        raise Undelivered(f"it cannot be run: {(error.strerror or str(error)).lower()}") from None
    try:
        async with asyncio.timeout(limit):
            await process.communicate(body)
    except TimeoutError:
        raise Undelivered(f"it took longer than {limit:g} s and was ended") from None
    finally:
        if process.returncode is None:
            await _end_group(process)
    if process.returncode:
        raise Undelivered(f"it ended with {_told(process.returncode)}")


async def _begun(command: Sequence[str]) -> asyncio.subprocess.Process:
    """Whoever is cancelled while it begins still ends it: what it began itself is ended by nobody else."""
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    beginning = asyncio.create_task(
        asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=nothing, stderr=nothing, start_new_session=True
        )
    )
    try:
        return await asyncio.shield(beginning)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await _end_group(await beginning)
        raise


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """The command and whatever it began, unless they became another user's; nobody waits long for that."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), AT_ONCE)


def _told(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"signal {-code}"


async def post(url: str, body: bytes, limit: float = LIMIT) -> None:
    """POST `body` to an address. Raises `Undelivered` for anything but a status of 200 to 299 in time."""
    import httpx

    try:
        async with asyncio.timeout(limit):
            client = await asyncio.to_thread(_client, limit)
            async with client, client.stream("POST", url, content=body, headers=HEADERS) as answer:
                status = answer.status_code
    except (TimeoutError, httpx.TimeoutException):
        raise Undelivered(f"no answer within {limit:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        raise Undelivered(f"it cannot be reached ({type(error).__name__})") from None
    if not 200 <= status < 300:
        raise Undelivered(f"it answered {status}")


def _client(limit: float) -> httpx.AsyncClient:
    """Made in a thread: reading the usual authorities takes a while. Follows nothing, keeps nothing."""
    import httpx

    from kbsync.targets.http import wire  # its loggers tell no addresses

    try:
        return httpx.AsyncClient(timeout=limit, follow_redirects=False, auth=wire.NO_AUTH)
    except (ImportError, ValueError, httpx.InvalidURL):  # of SOCKS it knows nothing without another package
        raise Undelivered(_NO_PROXY) from None


_NO_PROXY = (
    "the proxy of the environment (ALL_PROXY and the like) cannot be used: "
    "it has to be an address that begins with http:// or https://"
)

HEADERS = {"Content-Type": "application/json", "User-Agent": f"kbsync/{__version__}"}
