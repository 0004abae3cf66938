"""A test's access to a service: its stand-in, config settings, and client."""

from __future__ import annotations

import importlib
from typing import Any

from kbsync.targets.registry import TARGETS
from kbsync_standin.messages import StandInClock
from tests.targets.blocks import block

KEY = "id.secret-for-tests"
"""A key in Zhipu's format; the other services accept any."""

SERVICES = ("zhipu", "gptbots", "openai", "openwebui", "lightrag", "dify", "ragflow")


def stand_in(
    service: str,
    seed: int = 7,
    vectorize: tuple[float, float] = (0.0, 0.0),
    clock: StandInClock | None = None,
) -> Any:
    """Return the application. `vectorize`: the shortest and longest seconds until searches find an upload."""
    return importlib.import_module(f"kbsync_standin.{service}").application(KEY, seed, vectorize, clock)


def settings(app: Any, url: str, *, base: str = "", key: str = KEY) -> dict[str, Any]:
    """Return the settings that connect to a stand-in at `url`. `base`: the id of another base than its
    first.
    """
    base_id = {app.home_key: base or app.home_id} if app.home_key else {}
    return {"type": app.name, "base_url": url + app.api, "api_key": key, **base_id}


def config(app: Any, url: str, *, base: str = "", **options: Any) -> Any:
    """Return the config block. `options`: other settings, including those of `vectorization`."""
    return block(TARGETS[app.name], **settings(app, url, base=base), **options)


def client(service: str) -> Any:
    """Return the class of its target."""
    module, _, name = TARGETS[service].opens.partition(":")
    return getattr(importlib.import_module(module), name)
