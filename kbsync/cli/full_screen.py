"""Runs programs that fill a terminal (`search -i`, `status --watch`), rendered by prompt_toolkit.

It restores the terminal no matter how the program ends: with a key, a signal, an error or a closed window.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import AnyContainer, Layout

ESCAPE_WITHIN = 0.05
"""Seconds to wait for the rest of an escape sequence; an escape character alone is the Escape key."""


def full_screen(content: AnyContainer, keys: KeyBindings) -> Application[Any]:
    """Return a screen with these keys. Ctrl-C makes `show` raise `KeyboardInterrupt`."""

    @keys.add("c-c")
    @keys.add("<sigint>")
    def interrupt(event: KeyPressEvent) -> None:
        event.app.exit(exception=KeyboardInterrupt())

    screen = Application[Any](Layout(content), key_bindings=keys, full_screen=True)
    screen.timeoutlen = screen.ttimeoutlen = ESCAPE_WITHIN
    return screen


async def show(screen: Application[Any], work: Coroutine[Any, Any, None]) -> Any:
    """Show the screen until it exits. Return its result, or None if the terminal was closed.

    `work` runs at the same time and stops with the screen. An error in `work` ends both and is raised here.
    SIGTERM and SIGHUP raise `SystemExit`.
    """

    def end(error: BaseException) -> None:
        if screen.future is not None and not screen.future.done():
            screen.exit(exception=error)

    def finished(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            end(error)

    loop, working = asyncio.get_running_loop(), asyncio.create_task(work)
    # By default they would end the process immediately and leave the terminal without echo.
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, SystemExit(128 + number))
    working.add_done_callback(finished)
    try:
        return await screen.run_async()
    except EOFError:
        return None
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
