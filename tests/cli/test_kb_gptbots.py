"""Tests `kbsync kb` for an account on GPTBots, with a real stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync_standin.faults import Fault
from kbsync_standin.gptbots import HOME_ID, application
from kbsync_standin.server import Server
from tests.cli.sandbox import Sandbox
from tests.share import long

KEY = "app-secret-for-tests"


class Bot(Sandbox):
    """A sandbox whose mirror `handbook` uses the stand-in."""

    def __init__(self, root: Path, server: Server) -> None:
        super().__init__(root)
        self.server = server
        self.configure(
            f"target: {{type: gptbots, base_url: '{server.url}', api_key: {KEY},\n"
            f"  knowledge_base_id: {HOME_ID}, vectorization: {{poll_first: 100ms}}}}"
        )

    def documents(self) -> dict[str, dict[str, Any]]:
        documents = self.server.app.snapshot()["documents"]
        return {document["name"]: document for document in documents if not document["deleted"]}


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Bot]:
    server = Server(application(KEY))
    with server.in_thread():
        yield Bot(tmp_path, server)
    assert server.app.violations == []


def test_creating_a_base_needs_no_base_id(sandbox: Bot) -> None:
    config = sandbox.config
    config.write_text(config.read_text().replace(f"knowledge_base_id: {HOME_ID}, ", ""))
    assert HOME_ID in sandbox.run("kb", "list").out
    result = sandbox.run("kb", "create", "first").check_success()
    assert result.out.startswith('knowledge_base_id: "')


def bases(sandbox: Bot) -> dict[str, str]:
    """Return the name of every base by id."""
    listed = sandbox.run("kb", "list", "--json").json["knowledge_bases"]
    return {row["id"]: row["name"] for row in listed}


@long
def test_base_is_created_listed_and_shown(sandbox: Bot) -> None:
    sandbox.mirror({"bees.md": "bees"})
    result = sandbox.run("kb", "create", "guides", "--description", "How to").check_success()
    key, _, value = result.out.strip().partition(": ")
    assert (key, bases(sandbox)) == ("knowledge_base_id", {HOME_ID: "Default", value.strip('"'): "guides"})
    created = sandbox.run("kb", "show", value.strip('"'), "--json").json["knowledge_base"]
    assert (created["name"], created["description"], created["documents"]) == ("guides", "How to", 0)
    home = sandbox.run("kb", "show", "--json").json["knowledge_base"]
    assert (home["id"], home["documents"], home["ours"], home["mirrors"]) == (HOME_ID, 1, 1, ["handbook"])
    sandbox.run("kb", "create", "guides").check_refusal(2, value.strip('"'))
    sandbox.run("kb", "show", "4711").check_refusal(3, "kbsync kb list")


def test_base_that_the_service_lists_twice_is_shown_once(sandbox: Bot) -> None:
    rows = [{"id": id_, "name": name, "desc": ""} for id_, name in (("7", "first"), ("8", "second"))]
    body = {"knowledge_base": [*rows, *rows]}
    sandbox.server.faults.add(Fault("status", op="base", args={"status": 200, "body": body}))
    listed = sandbox.run("kb", "list", "--json").json["knowledge_bases"]
    assert [row["id"] for row in listed] == ["7", "8"]


def test_base_is_created_with_the_settings_its_service_requires(sandbox: Bot) -> None:
    prompt = "Name the machines = and their parts."
    words = ["--set", "graph_enable=true", "--set", f"kg_ner_extraction_user_prompt={prompt}"]
    result = sandbox.run("kb", "create", "guides", *words, "--json").check_success()
    settings = {"graph_enable": "true", "kg_ner_extraction_user_prompt": prompt}
    assert result.json["knowledge_base"]["settings"] == settings
    settings_by_base = {base["id"]: base["settings"] for base in sandbox.server.app.snapshot()["bases"]}
    sent = {"graph_enable": True, "kg_ner_extraction_user_prompt": prompt}
    assert settings_by_base[result.json["knowledge_base"]["id"]] == sent


PROMPT = "kg_ner_extraction_user_prompt"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("models", "models"),
        ("capacity", "space"),
        (f"update {HOME_ID} --name other", "console"),
        (f"update {HOME_ID} --model 3", "console"),
        (f"delete {HOME_ID}", "console"),
        (f"delete {HOME_ID} --yes Default", "console"),
        ("create guides --model 3", "--model"),
        (
            "create guides --set icon=book",
            f"available settings: graph_enable, access_control_enabled, {PROMPT}",
        ),
        ("create guides --set graph_enable=maybe", "allowed: false, true"),
        (f"create guides --set {PROMPT}=x", "needs graph_enable=true"),
        (f"create guides --set {PROMPT}=x --set graph_enable=false", "needs graph_enable=true"),
    ],
)
def test_unsupported_setting_is_refused_before_confirmation(sandbox: Bot, words: str, message: str) -> None:
    result = sandbox.run("kb", *words.split())
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert "deletes everything in the knowledge base" not in result.err
    assert sandbox.server.requests.total == 0


@pytest.mark.parametrize("kind", ["lost-answer", "code-after", "shape"])
def test_lost_response_leaves_one_base_and_its_id_is_found(sandbox: Bot, kind: str) -> None:
    sandbox.server.faults.add(Fault(kind, op="create-base"))
    result = sandbox.run("kb", "create", "guides", "--json").check_success()
    base_ids = [base_id for base_id, name in bases(sandbox).items() if name == "guides"]
    assert base_ids == [result.json["knowledge_base"]["id"]]


def serving(sandbox: Bot) -> set[str]:
    return {name for name, document in sandbox.documents().items() if document["serving"]}


@long
def test_retry_all_names_the_affected_base_and_requires_its_name(sandbox: Bot) -> None:
    sandbox.config.write_text(
        sandbox.config.read_text().replace("poll_first", "reembed_tries: 0, poll_first")
    )
    sandbox.server.faults.add(Fault("fails", op="add", times=0, args={"name": "bees*"}))
    sandbox.write_all({"bees.md": "bees", "wasps.md": "wasps"})
    assert sandbox.run("--once").code == 1
    sandbox.server.faults.clear()
    for words in ([], ["--yes", "yes"]):
        result = sandbox.run("kb", "retry", *words)
        assert (result.code, result.out) == (2, ""), result.err
        assert "every failed document of the whole bot, across all its knowledge bases" in result.err
        assert "2 documents, 2 of them ours" in result.err
    assert sandbox.server.requests.by_op["retry"] == 0
    assert serving(sandbox) == {"wasps.md"}
    result = sandbox.run("kb", "retry", "--yes", "Default")
    assert (result.code, result.out) == (0, "the service will reindex 1 document\n"), result.err
    assert serving(sandbox) == {"wasps.md", "bees.md"}
    result = sandbox.run("kb", "retry", "--yes", "Default")
    assert (result.code, result.out) == (0, "the service has no failed documents\n"), result.err


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        (Fault("lost-answer", op="retry"), 4, "safe to run this command again"),
        (Fault("status", op="retry", effect=False, args={"status": 404}), 2, "doesn't support this request"),
    ],
    ids=["lost answer", "no such call"],
)
def test_failed_retry_all_is_sent_once_and_reported(
    sandbox: Bot, fault: Fault, code: int, message: str
) -> None:
    sandbox.server.faults.add(fault)
    result = sandbox.run("kb", "retry", "--yes", "Default")
    assert (result.code, result.out, message in result.err) == (code, "", True), result.err
    assert sandbox.server.requests.by_op["retry"] == 1


def test_unknown_count_is_not_invented(sandbox: Bot) -> None:
    sandbox.server.faults.add(Fault("shape", op="retry", times=0))
    assert "didn't say" in sandbox.run("kb", "retry", "--yes", "Default").out
    assert sandbox.run("kb", "retry", "--yes", "Default", "--json").json == {"retried": None}
