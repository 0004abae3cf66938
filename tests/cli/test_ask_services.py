"""Tests `kbsync ask` on services that answer with a model or by themselves, and each way an answer can
end.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from kbsync_standin.faults import Fault
from kbsync_standin.ragflow import HOME_CHAT, HOME_ID
from kbsync_standin.server import Server
from tests.cli.sandbox import LONGEST, Sandbox
from tests.services import access
from tests.share import long

MODEL = "some-model"
# Each service of the fixture is a separate server.
pytestmark = long

HOURS, PRICES = "The office opens at nine.", "Coffee costs four."
QUESTION = "when does the office open"


@dataclass(frozen=True)
class AnsweringService:
    """A service that answers. `op`: the answering call.

    `mark`: the citation of the first document; `cuts`: how an answer breaks off; `none`: the service's own
    answer if it finds nothing.
    """

    op: str = "chat"
    has_model: bool = True
    answerer: dict[str, str] = field(default_factory=lambda: {"way": "passages", "model": MODEL})
    mark: str = "[1]"
    cuts: tuple[str, ...] = ("no-finish",)
    none: str = ""


SERVICES = {
    "openai": AnsweringService(),
    "openwebui": AnsweringService(),
    "lightrag": AnsweringService(
        "ask", False, {"way": "application", "application": "server"}, cuts=("no-finish", "half-line")
    ),
    "ragflow": AnsweringService(
        has_model=False,
        answerer={"way": "application", "application": HOME_CHAT},
        mark="[ID:0]",
        none="Sorry! No relevant content was found in the knowledge base!\n",
    ),
}
WITH_MODEL = [name for name, service in SERVICES.items() if service.has_model]


@dataclass
class AskSandbox:
    """A mirror of two files on a service, next to another user's document."""

    sandbox: Sandbox
    server: Server
    app: Any
    service: AnsweringService

    def play(self, kind: str, **args: Any) -> None:
        self.server.faults.add(Fault(kind, op=self.service.op, args=args))

    @property
    def questions(self) -> int:
        return self.server.requests.by_op[self.service.op]


@pytest.fixture(scope="module")
def sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, AskSandbox]]:
    """Create the sandboxes when a test first uses them."""
    sandboxes_by_type: dict[str, AskSandbox] = {}
    closing = []
    for name, service in SERVICES.items():
        app = access.stand_in(name)
        server = Server(app)
        running = server.in_thread()
        running.__enter__()
        sandbox = Sandbox(tmp_path_factory.mktemp(name))
        closing += [lambda running=running: running.__exit__(None, None, None), sandbox.close]
        target = access.settings(app, server.url)
        model = {"chat_model": MODEL} if service.has_model else {}
        sandbox.configure(f"target: {json.dumps(target | model)}")
        sandbox.write_all({"guides/hours.md": HOURS, "prices.md": PRICES})
        assert sandbox.run("--once", "-q").code == 0
        app.put_foreign({"name": "theirs.md", "text": "The office smells of paint."})
        sandboxes_by_type[name] = AskSandbox(sandbox, server, app, service)
    yield sandboxes_by_type
    for close in closing:
        close()


@pytest.fixture(params=SERVICES)
def ask_sandbox(sandboxes: dict[str, AskSandbox], request: pytest.FixtureRequest) -> Iterator[AskSandbox]:
    yield from tidied(sandboxes[request.param])


@pytest.fixture(params=WITH_MODEL)
def with_model(sandboxes: dict[str, AskSandbox], request: pytest.FixtureRequest) -> Iterator[AskSandbox]:
    yield from tidied(sandboxes[request.param])


def tidied(ask_sandbox: AskSandbox) -> Iterator[AskSandbox]:
    yield ask_sandbox
    ask_sandbox.server.faults.clear()
    ask_sandbox.app.set_behaviour({"key_revoked": False})
    if ask_sandbox.service.mark != "[1]":
        ask_sandbox.app.set_behaviour({"assistants": "one", "chats": "new"})
    assert ask_sandbox.app.violations == []


@pytest.mark.parametrize("options", [[], ["--whole"]])
def test_answer_lists_the_files_it_is_based_on(ask_sandbox: AskSandbox, options: list[str]) -> None:
    result = ask_sandbox.sandbox.run("ask", QUESTION, *options).check_success()
    assert result.out.startswith(HOURS)
    assert f"{ask_sandbox.service.mark} guides/hours.md" in result.out.splitlines()
    answer = ask_sandbox.sandbox.run("ask", QUESTION, "--json", *options).json
    assert {key: answer[key] for key in ask_sandbox.service.answerer} == ask_sandbox.service.answerer
    assert answer["answer"].startswith(HOURS)
    [cited] = [citation for citation in answer["citations"] if citation["path"] == "guides/hours.md"]
    assert (cited["number"], [passage["text"].strip() for passage in cited["passages"]]) == (1, [HOURS])
    assert cited["marks"] == [ask_sandbox.service.mark.strip("[]")]


def test_conversation_history_is_sent_along(ask_sandbox: AskSandbox) -> None:
    process = ask_sandbox.sandbox.start("ask", "-i", "--json", stdin=subprocess.PIPE)
    out, err = process.communicate(f"{QUESTION}\nwhat does the coffee cost\n".encode(), timeout=LONGEST)
    first, second = (json.loads(line) for line in out.splitlines())
    assert process.returncode == 0, err
    assert HOURS in first["answer"]
    assert PRICES in second["answer"]


def test_interrupted_answer_is_not_treated_as_complete(ask_sandbox: AskSandbox) -> None:
    for end in ("error", *ask_sandbox.service.cuts):
        ask_sandbox.play("stream", end=end)
        result = ask_sandbox.sandbox.run("ask", QUESTION)
        assert result.code == 4, end
        assert f"{ask_sandbox.service.mark} guides/hours.md" not in result.out
        assert result.out.endswith("\n")
        is_reported = "model is down" in result.err or "大模型内部错误" in result.err
        assert is_reported if end == "error" else "is incomplete" in result.err


@pytest.mark.parametrize("kind", ["lost-answer", "cut-body", "reset-reading"])
@pytest.mark.parametrize("options", [[], ["--whole"]])
def test_question_is_sent_once_even_if_its_answer_is_lost(
    ask_sandbox: AskSandbox, kind: str, options: list[str]
) -> None:
    before = ask_sandbox.questions
    ask_sandbox.play(kind)
    ask_sandbox.sandbox.run("ask", QUESTION, "--json", *options).check_refusal(4)
    assert ask_sandbox.questions == before + 1


@pytest.mark.parametrize("options", [[], ["--whole"]])
def test_no_model_is_asked_when_the_search_finds_nothing(ask_sandbox: AskSandbox, options: list[str]) -> None:
    before = ask_sandbox.questions
    result = ask_sandbox.sandbox.run("ask", "zebra", *options)
    assert (result.code, result.out) == (0, ask_sandbox.service.none)
    assert ("nothing found for: zebra; the model wasn't asked" in result.err) == (
        not ask_sandbox.service.none
    )
    assert ask_sandbox.questions == before + (not ask_sandbox.service.has_model)


def test_refused_key_exits_with_code_3(ask_sandbox: AskSandbox) -> None:
    ask_sandbox.app.set_behaviour({"key_revoked": True})
    ask_sandbox.sandbox.run("ask", QUESTION).check_refusal(3)


# -- models that get passages --------------------------------------------------------------------------------


def test_answers_use_only_selected_documents_of_the_mirror(with_model: AskSandbox) -> None:
    answer = with_model.sandbox.run("ask", "what is said of the office and of coffee", "--json").json
    assert {citation["path"] for citation in answer["citations"]} == {"guides/hours.md", "prices.md"}
    assert "paint" not in answer["answer"]
    answer = with_model.sandbox.run("ask", "office and coffee", "--path", "guides/**", "--json").json
    assert {citation["path"] for citation in answer["citations"]} == {"guides/hours.md"}


def test_unknown_model_is_a_usage_error(with_model: AskSandbox) -> None:
    for how in ([], ["--whole"]):
        with_model.sandbox.run("ask", QUESTION, "--model", "nobody-9", *how).check_refusal(2, "odel")


def test_applications_are_refused_for_services_that_have_none(with_model: AskSandbox) -> None:
    with_model.sandbox.run("ask", QUESTION, "--app", "77").check_refusal(2, "no applications")
    result = with_model.sandbox.run("kb", "app", "list")
    assert (result.code, "no applications" in result.err) == (2, True)


def test_model_is_required_when_the_config_names_none(with_model: AskSandbox) -> None:
    text = with_model.sandbox.config.read_text()
    with_model.sandbox.config.write_text(text.replace(f'"chat_model": "{MODEL}"', '"chat_model": ""'))
    try:
        with_model.sandbox.run("ask", QUESTION).check_refusal(2, "--model NAME")
        assert with_model.sandbox.run("ask", QUESTION, "--model", MODEL).out.startswith(HOURS)
    finally:
        with_model.sandbox.config.write_text(text)


@pytest.mark.parametrize("name", [*WITH_MODEL, "lightrag"])
@pytest.mark.parametrize("error", [{"detail": "overloaded"}, {"error": "overloaded"}])
def test_error_in_the_stream_is_shown_in_the_services_words(
    sandboxes: dict[str, AskSandbox], name: str, error: dict[str, str]
) -> None:
    ask_sandbox = sandboxes[name]
    ask_sandbox.play("stream", end="error", error=error)
    result = ask_sandbox.sandbox.run("ask", QUESTION)
    assert (result.code, "overloaded" in result.err) == (4, True)


def test_answer_cut_at_the_length_limit_is_incomplete(with_model: AskSandbox) -> None:
    for how in ([], ["--whole"]):
        with_model.play("stream", reason="length")
        result = with_model.sandbox.run("ask", QUESTION, *how)
        assert (result.code, "reached the model's output limit" in result.err) == (4, True)


# -- servers with their own answers --------------------------------------------------------------------------


@pytest.mark.parametrize("choice", [["--model", "x"], ["--app", "x"], ["--path", "guides/**"]])
def test_server_that_answers_itself_accepts_no_model_choice(
    sandboxes: dict[str, AskSandbox], choice: list[str]
) -> None:
    before = sandboxes["lightrag"].questions
    result = sandboxes["lightrag"].sandbox.run("ask", QUESTION, *choice)
    assert (result.code, result.out) == (2, "")
    assert choice[0] in result.err
    assert sandboxes["lightrag"].questions == before


def test_foreign_documents_are_counted_but_not_cited(sandboxes: dict[str, AskSandbox]) -> None:
    """The citation numbers are the server's own."""
    question = "the office smells like paint and opens at nine, coffee is free"
    result = sandboxes["lightrag"].sandbox.run("ask", question)
    assert result.code == 0, result.err
    assert result.out.splitlines()[-2:] == ["[1] guides/hours.md", "[3] prices.md"]
    assert result.err == "kbsync: the answer also uses 1 document outside this mirror\n"


# -- chat assistants ---------------------------------------------------------------------------------------


@pytest.fixture
def assistants(sandboxes: dict[str, AskSandbox]) -> Iterator[AskSandbox]:
    yield from tidied(sandboxes["ragflow"])


@pytest.mark.parametrize(
    ("existing", "message"),
    [
        ("none", f"answers from {HOME_ID}; create a chat with this dataset in RAGFlow\n"),
        ("elsewhere", "choose another application with --app: 3c2ed1e0c1bb11f08bd20242ac120006 (kitchen)\n"),
        ("two", f"--app: {HOME_CHAT} (helpdesk), 2c2ed1e0c1bb11f08bd20242ac120006 (second desk)\n"),
    ],
)
def test_assistant_is_found_by_its_dataset(assistants: AskSandbox, existing: str, message: str) -> None:
    assistants.app.set_behaviour({"assistants": existing})
    result = assistants.sandbox.run("ask", QUESTION)
    assert (result.code, result.out) == (2, "")
    assert result.err.endswith(message)


def test_unlisted_assistants_are_not_blamed_on_a_missing_model(assistants: AskSandbox) -> None:
    """`--model`, the advice for a service without applications, is refused here."""
    assistants.server.faults.add(Fault("status", op="chats", args={"status": 404, "body": "<html>nginx"}))
    result = assistants.sandbox.run("ask", QUESTION)
    assert (result.code, result.out, "--model" in result.err) == (2, "", False)
    assert "answered 404: a web page; the service doesn't support this call" in result.err


@pytest.mark.parametrize("options", [[], ["--whole"]])
def test_before_0_25_1_assistants_use_the_older_calls(assistants: AskSandbox, options: list[str]) -> None:
    assistants.app.set_behaviour({"chats": "old", "assistants": "two"})
    [first, _] = assistants.sandbox.run("kb", "app", "list", "--json").json["applications"]
    assert first["knowledge_bases"] == [HOME_ID]
    result = assistants.sandbox.run("ask", QUESTION, "--app", first["id"], *options)
    assert (result.code, "[ID:0] guides/hours.md" in result.out.splitlines()) == (0, True)


def test_assistant_answers_from_selected_documents(assistants: AskSandbox) -> None:
    question = "office opens at nine, coffee costs four, paint"
    result = assistants.sandbox.run("ask", question)
    assert result.out.splitlines()[-2:] == ["[ID:0] guides/hours.md", "[ID:1] prices.md"]
    assert result.err == "kbsync: the answer also uses 1 document outside this mirror\n"
    result = assistants.sandbox.run("ask", question, "--path", "prices.md")
    assert (result.out.splitlines()[-1], result.err) == ("[ID:0] prices.md", "")


@pytest.mark.parametrize("options", [[], ["--whole"]])
def test_reasoning_of_the_model_is_not_part_of_the_answer(assistants: AskSandbox, options: list[str]) -> None:
    assistants.play("stream", reasoning=True)
    assert assistants.sandbox.run("ask", QUESTION, *options).out.startswith(HOURS)


def test_model_error_is_never_an_answer(assistants: AskSandbox) -> None:
    assistants.play("stream", end="error")
    result = assistants.sandbox.run("ask", QUESTION, "--whole")
    assert (result.code, "the model is down" in result.err) == (4, True)
    assert "ERROR" not in result.out


def test_assistants_are_listed_but_managed_elsewhere(assistants: AskSandbox) -> None:
    result = assistants.sandbox.run("kb", "app", "show", HOME_CHAT, "--json").json["application"]
    assert (result["name"], result["model"]) == ("helpdesk", "qwen")
    for words in (["show", "nobody"], ["create", "desk"], ["update", HOME_CHAT, "--name", "desk"]):
        completed = assistants.sandbox.run("kb", "app", *words)
        assert (completed.code, completed.out) == (2, "")
        assert (
            "change chat assistants in RAGFlow" in completed.err
            or "there is no application nobody" in completed.err
        )
    for choice in (["--model", "qwen"], ["--app", "nobody"]):
        completed = assistants.sandbox.run("ask", QUESTION, *choice)
        assert (completed.code, completed.out) == (2, "")
        assert "omit --model" in completed.err or "You don't own the chat" in completed.err
