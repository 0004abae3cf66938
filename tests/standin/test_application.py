"""Tests the features that every stand-in inherits: keys, cookies, others' documents, journal, reset."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

from kbsync_standin.application import Application
from kbsync_standin.messages import Request, StandInClock

SERVICES = ("dify", "gptbots", "lightrag", "openai", "openwebui", "ragflow", "zhipu")
NOON = 1_700_000_000.0


@pytest.fixture(params=SERVICES)
def app(request: pytest.FixtureRequest) -> Application[Any, Any]:
    application = importlib.import_module(f"kbsync_standin.{request.param}").application("a.key", 7)
    assert isinstance(application, Application)
    application.clock = StandInClock(lambda: NOON)
    return application


def ask(app: Application[Any, Any], key: str = "a.key", **headers: str) -> int:
    """Return the status of the first call that reads something and has no id in its path."""
    path = next(
        route.pattern.pattern for route in app.routes if route.method == "GET" and "{" not in route.path
    )
    settings = {"authorization": f"Bearer {key}", "x-api-key": key, "host": "here", **headers}
    return app.answer(Request("GET", path, path, {}, settings), None).status


def test_cookie_is_a_violation(app: Application[Any, Any]) -> None:
    app.violations.clear()
    ask(app, cookie="session=1")
    assert any("a cookie was sent" in violation for violation in app.violations)


def test_key_is_refused_once_revoked(app: Application[Any, Any]) -> None:
    accepted = ask(app)
    app.set_behaviour({"key_revoked": True})
    revoked = ask(app)
    assert revoked == ask(app, "another.key")
    assert accepted != revoked or app.name == "gptbots"  # which reports it in the body


def test_foreign_changes_are_in_the_snapshot_and_in_the_journal(app: Application[Any, Any]) -> None:
    guide = app.put_foreign({"name": "guide.md", "text": "by somebody else"})
    assert (guide["foreign"], guide["deleted"], guide["sent_name"]) == (True, False, "guide.md")
    assert [document["id"] for document in app.snapshot()["documents"]] == [guide["id"]]
    app.put_foreign({"delete": "guide.md"})
    assert [document for document in app.snapshot()["documents"] if not document["deleted"]] == []
    entries = app.journal()
    assert [entry["n"] for entry in entries] == list(range(1, len(entries) + 1))
    assert {entry["at"] for entry in entries} == {NOON}
    assert (entries[-1]["effect"], entries[-1]["id"]) == ("foreign-deleted", guide["id"])
    with pytest.raises(ValueError, match="there is no document"):
        app.put_foreign({"delete": "guide.md"})
    json.dumps([app.snapshot(), entries])


def test_reset_restores_the_initial_state(app: Application[Any, Any]) -> None:
    before = app.snapshot(), app.behaviour
    app.put_foreign({"name": "guide.md", "text": "by somebody else"})
    app.set_behaviour({"extra_fields": True, "page_cap": 3})
    app.violations.append("no key")
    app.reset()
    assert (app.snapshot(), app.behaviour) == before
    assert (app.journal(), app.violations) == ([], [])


def test_stand_in_prints_a_config_for_its_base(app: Application[Any, Any]) -> None:
    lines = app.config_hint("http://127.0.0.1:9").splitlines()
    assert f"      base_url: http://127.0.0.1:9{app.api}" in lines
    assert "      api_key: a.key" in lines
    assert (f'      {app.home_key}: "{app.home_id}"' in lines) == (app.name != "lightrag")
