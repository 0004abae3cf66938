"""Drives headless Chromium over a pipe with its DevTools protocol, without a package or port."""

from __future__ import annotations

import itertools
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.programs import find_program, require_programs

PATIENCE = 60.0
# Without a sandbox: tests run as root in containers, and the browser only opens our own page.
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking "
    "--disable-component-update --disable-extensions --no-first-run --hide-scrollbars --lang=en-US "
    "--remote-debugging-pipe"
)


class Connection:
    """The pipes to a browser. `pages`: its open pages, by session."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._numbers = itertools.count(1)
        self._buffer = b""
        self.pages: dict[str, Page] = {}

    def call(self, session: str, method: str, params: dict[str, Any]) -> Any:
        """Return the browser's response; session "": from the browser itself. Raises `RuntimeError` for an
        error.
        """
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            heard = self._hear(deadline)
            if heard.get("id") == number:
                if "error" in heard:
                    raise RuntimeError(f"{method}: {heard['error']['message']}")
                return heard["result"]

    def _hear(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reading], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            piece = os.read(self._reading, 1 << 20)
            assert piece, "the browser has ended"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        heard: dict[str, Any] = json.loads(message)
        if (page := self.pages.get(heard.get("sessionId", ""))) is not None:
            page.note(heard.get("method", ""), heard.get("params", {}))
        return heard


class Page:
    """One page of one browser. `messages`: its console output, with errors and refusals. With `behind`, it is
    a tab that the user opened in the background.
    """

    def __init__(self, connection: Connection, *, behind: bool = False) -> None:
        self._connection = connection
        self.messages: list[str] = []
        self.requested: list[str] = []
        created = {"url": "about:blank", "background": behind}
        self._target = connection.call("", "Target.createTarget", created)["targetId"]
        attached = {"targetId": self._target, "flatten": True}
        self._session = connection.call("", "Target.attachToTarget", attached)["sessionId"]
        connection.pages[self._session] = self
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    @contextmanager
    def tabs(self, url: str, count: int) -> Iterator[list[Page]]:
        """Open a URL in tabs behind this one, and close them at the end."""
        tabs = [Page(self._connection, behind=True) for _ in range(count)]
        try:
            for tab in tabs:
                tab.open(url)
            yield tabs
        finally:
            for tab in tabs:
                self._connection.call("", "Target.closeTarget", {"targetId": tab._target})

    def call(self, method: str, **params: Any) -> Any:
        """Return the browser's response. Raises `RuntimeError` for an error."""
        return self._connection.call(self._session, method, params)

    def note(self, method: str, params: dict[str, Any]) -> None:
        """Record one of the page's events."""
        if method == "Runtime.consoleAPICalled":
            self.messages.append(
                " ".join(str(argument.get("value", argument)) for argument in params["args"])
            )
        elif method == "Runtime.exceptionThrown":
            self.messages.append(json.dumps(params["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.messages.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])

    def open(self, url: str) -> None:
        """Open a URL."""
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """Return the value of an expression, awaited."""
        message = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in message:
            raise RuntimeError(json.dumps(message["exceptionDetails"]))
        return message["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait for an expression to become true. The page may be loading meanwhile."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with suppress(RuntimeError):
                if self.run(f"!!({condition})"):
                    return
            time.sleep(0.02)
        raise AssertionError(f"it did not happen: {condition}; {self.messages}")

    def press(self, key: str) -> None:
        """Press one key, such as `Tab`, `Enter`, `Escape` or `/`."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27}
        given: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0]))}
        text = "\r" if key == "Enter" else key if len(key) == 1 else ""
        self.call("Input.dispatchKeyEvent", type="keyDown", **given, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **given)

    def write(self, text: str) -> None:
        """Type into the focused element."""
        self.call("Input.insertText", text=text)

    def size(self, width: int, height: int, *, dark: bool = False, reduced_motion: bool = False) -> None:
        """Set the window's size and its user's preferences."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if reduced_motion else "no-preference"},
        ]
        self.call("Emulation.setEmulatedMedia", features=features)


@contextmanager
def browsing(profile: Path) -> Iterator[Page]:
    """Open a page in a new browser, which ends with it. Skips the test without Chromium."""
    require_programs(["chromium"])
    program = find_program("chromium")
    down_read, down_write = os.pipe()
    up_read, up_write = os.pipe()
    shell = f"exec {program} {FLAGS} --user-data-dir={profile} about:blank 3<&{down_read} 4>&{up_write}"
    process = subprocess.Popen(
        ["/bin/bash", "-c", shell],
        pass_fds=(down_read, up_write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(down_read)
    os.close(up_write)
    try:
        yield Page(Connection(up_read, down_write))
    finally:
        os.close(down_write)
        process.kill()
        process.wait()
        os.close(up_read)
