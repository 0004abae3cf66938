"""Tests `kbsync ask -i`: a conversation, from a terminal or from lines of stdin."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from kbsync_standin.faults import Fault
from kbsync_standin.messages import Request, Response
from tests.cli.sandbox import LONGEST
from tests.cli.terminal import Begin
from tests.cli.zhipu import ZhipuSandbox, filled_zhipu_sandbox, tidied
from tests.share import long

pytestmark = long

HOURS, COFFEE = "The office opens at nine.", "Coffee costs four."
OPENS, COSTS = "when does the office open", "what does coffee cost"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZhipuSandbox]:
    files = {"hours.md": HOURS, "coffee.md": COFFEE}
    with filled_zhipu_sandbox(tmp_path_factory.mktemp("shared"), files, "unrelated") as zhipu:
        assert zhipu.run("kb", "app", "create", "helpdesk").code == 0
        yield zhipu


@pytest.fixture
def zhipu(shared: ZhipuSandbox) -> Iterator[ZhipuSandbox]:
    with tidied(shared, not_offered=[], key_revoked=False, money_gone=False) as zhipu:
        yield zhipu


@pytest.fixture
def sent_messages(shared: ZhipuSandbox, monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, str]]]:
    """Return the messages of each question to an application or a model, without the system prompt."""
    app = shared.service.server.app
    answered, messages = app.answer, []

    def answer(request: Request, fault: Fault | None) -> Response:
        if app.op(request) in ("sse-invoke", "chat"):
            body = json.loads(request.body)
            prompt = body.get("prompt") or body["messages"][1:]
            messages.append(prompt)
        return answered(request, fault)

    monkeypatch.setattr(app, "answer", answer)
    return messages


def converse(zhipu: ZhipuSandbox, text: str, *words: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a conversation whose questions are the lines of `text`."""
    process = zhipu.start("ask", "-i", *words, stdin=subprocess.PIPE)
    out, err = process.communicate(text.encode(), timeout=LONGEST)
    assert b"Traceback" not in err, err.decode()
    return process.returncode, out.decode(), err.decode()


BY = pytest.mark.parametrize("by", [(), ("--model", "glm-4-flash")], ids=["application", "model"])


@BY
def test_each_line_is_a_question_in_the_same_conversation(
    zhipu: ZhipuSandbox, by: tuple[str, ...], sent_messages: list[Any]
) -> None:
    code, out, err = converse(zhipu, f"{OPENS}\n\n   \n{COSTS}\n", *by, "-q")
    assert (code, err) == (0, "")
    assert out.startswith(f"{HOURS}\n\n[1] hours.md\n\n{COFFEE}\n\n[1] ")
    assert out.endswith("] coffee.md\n\n")
    [[alone], [question, answer, now]] = sent_messages
    assert OPENS in alone["content"]
    assert (question, answer) == ({"role": "user", "content": OPENS}, {"role": "assistant", "content": HOURS})
    assert COSTS in now["content"]
    assert HOURS not in now["content"].splitlines()[-1]


@BY
def test_json_prints_one_document_per_line_immediately(zhipu: ZhipuSandbox, by: tuple[str, ...]) -> None:
    process = zhipu.start("ask", "-i", *by, "--json", "--whole", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for question, answer, path in ((OPENS, HOURS, "hours.md"), (COSTS, COFFEE, "coffee.md")):
        process.stdin.write(f"{question}\n".encode())
        process.stdin.flush()
        reply = json.loads(process.stdout.readline())
        assert (reply["question"], "error" in reply) == (question, False)
        assert answer in reply["answer"]
        assert path in {cited["path"] for cited in reply["citations"]}
    process.communicate(timeout=LONGEST)
    assert process.returncode == 0


@BY
@pytest.mark.parametrize("words", [(), ("--json",)])
def test_interrupted_answer_is_not_added_to_the_history(
    zhipu: ZhipuSandbox, by: tuple[str, ...], words: tuple[str, ...], sent_messages: list[Any]
) -> None:
    for op in ("sse-invoke", "chat"):
        zhipu.service.server.faults.add(Fault("stream", op=op, args={"end": "no-finish"}))
    code, out, err = converse(zhipu, f"{OPENS}\n{COSTS}\n", *by, *words)
    assert code == 0
    assert "is incomplete" in err
    assert COFFEE in out
    assert [len(messages) for messages in sent_messages] == [1, 1]
    if words:
        first, second = (json.loads(line) for line in out.splitlines())
        assert (first["answer"], first["citations"]) == ("", [])
        assert "is incomplete" in first["error"]
        assert "error" not in second


def test_selection_applies_to_every_question(zhipu: ZhipuSandbox) -> None:
    code, out, _ = converse(zhipu, f"{OPENS}\n{COSTS}\n", "--path", "coffee.md", "--json")
    assert code == 0
    paths = [cited["path"] for line in out.splitlines() for cited in json.loads(line)["citations"]]
    assert set(paths) == {"coffee.md"}
    code, out, err = converse(zhipu, f"{OPENS}\n{COSTS}\n", "--path", "nowhere.md")
    assert (code, out.strip()) == (0, "")
    assert err.count("the question wasn't sent") == 2


def test_question_on_the_command_line_is_asked_first(zhipu: ZhipuSandbox) -> None:
    code, out, _ = converse(zhipu, f"{COSTS}\n", OPENS)
    assert code == 0
    assert out.index(HOURS) < out.index(COFFEE)


def test_session_ends_on_errors_that_no_other_question_can_fix(zhipu: ZhipuSandbox) -> None:
    zhipu.service.turn(key_revoked=True)
    code, out, err = converse(zhipu, f"{OPENS}\n{COSTS}\n")
    assert (code, out) == (3, "")
    assert err.count("kbsync: ") == 1
    assert "rejected the API key" in err


# -- terminals -----------------------------------------------------------------------------------------


@pytest.fixture
def ask_terminal(zhipu: ZhipuSandbox, terminal: Begin) -> Begin:
    return lambda *words: terminal(zhipu, "ask", "-i", *words, columns=100)


def test_terminal_session_runs_until_end_of_input(zhipu: ZhipuSandbox, ask_terminal: Begin) -> None:
    before = zhipu.files()
    terminal = ask_terminal()
    terminal.until("> ")
    for question, citation in ((OPENS, "hours.md"), (COSTS, "coffee.md")):
        terminal.type(f"{question}\n")
        terminal.until(citation)
        terminal.until("> ")
    terminal.type("\x04")
    assert terminal.end() == 0
    assert zhipu.files() == before, "nothing of it is stored"


@BY
def test_interrupt_stops_only_the_current_answer(
    zhipu: ZhipuSandbox, ask_terminal: Begin, by: tuple[str, ...], sent_messages: list[Any]
) -> None:
    for op in ("sse-invoke", "chat"):
        zhipu.service.server.faults.add(Fault("stream", op=op, args={"every": 0.5}))
    terminal = ask_terminal(*by)
    terminal.until("> ")
    terminal.type(f"{OPENS}\n")
    terminal.until("The ")
    terminal.process.send_signal(signal.SIGINT)
    terminal.until("> ")
    terminal.type(f"{COSTS}\n")
    terminal.until(COFFEE)
    terminal.until("> ")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 0
    assert [len(messages) for messages in sent_messages] == [1, 1]


def test_no_signal_is_lost_before_waiting_for_a_key(zhipu: ZhipuSandbox, ask_terminal: Begin) -> None:
    """readline doesn't check for signals right after its output: some of these would be missed."""
    for _ in range(6):
        terminal = ask_terminal()
        terminal.until("> ")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0
        assert "Traceback" not in terminal.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("amid_an_answer", [True, False])
def test_terminal_settings_are_restored(
    zhipu: ZhipuSandbox, ask_terminal: Begin, number: signal.Signals, amid_an_answer: bool
) -> None:
    zhipu.service.server.faults.add(Fault("stream", op="sse-invoke", args={"every": 0.5}))
    terminal = ask_terminal()
    terminal.until("> ")
    if amid_an_answer:
        terminal.type(f"{OPENS}\n")
        terminal.until("The ")
    else:
        terminal.type("when")
        terminal.until("when")
    terminal.process.send_signal(number)
    assert terminal.end() == (-number if amid_an_answer else 128 + number)
    assert "Traceback" not in terminal.output
