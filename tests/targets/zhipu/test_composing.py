"""Tests answers of a model that gets passages: the request, and each way the answer can end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from kbsync.accounts.account import Answerer, Question, Sources, Turn, account_of
from kbsync.accounts.answering import MAX_CHARACTERS, MAX_PASSAGES
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.zhipu.target import ZhipuTarget
from tests.clocks import Clock
from tests.targets.zhipu.scripted import KEY, ScriptedService, ok, target

FLASH = Answerer(model="glm-4-flash")
APP = Answerer(application="77")


def passage(text: str, doc_id: str = "1", score: float = 0.5) -> dict[str, Any]:
    return {"id": "p", "text": text, "score": score, "metadata": {"doc_id": doc_id}}


FOUND = ok([passage("The office opens at nine.", "1", 0.9), passage('It "closes" at\nfive.', "2", 0.4)])


def event(text: str = "", **choice: Any) -> bytes:
    chunk = {
        "id": "1",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, **choice}],
    }
    return f"data: {json.dumps(chunk)}\n\n".encode()


END = event(finish_reason="stop", usage={"total_tokens": 3}) + b"data: [DONE]\n\n"
GOOD = (200, event("At ") + event("nine.") + END)


def completion(text: str, finish: str = "stop") -> dict[str, Any]:
    return {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}]
    }


async def ask(
    zhipu_target: ZhipuTarget,
    question: str = "when",
    by: Answerer = FLASH,
    turns: Sequence[Turn] = (),
    among: Sequence[str] = (),
    streamed: bool = True,
) -> tuple[str, Sources | None]:
    text, sources = "", None
    async for piece in account_of(zhipu_target).answers.answer(
        Question(question, by, turns, among, streamed)
    ):
        if isinstance(piece, Sources):
            sources = piece
        else:
            text += piece
    return text, sources


def turns(count: int) -> Sequence[Turn]:
    return [Turn(f"q{n}", f"a{n}") for n in range(count)]


async def test_passages_are_sent_with_the_question_and_returned_as_sources() -> None:
    service = ScriptedService(retrieve=[FOUND], chat=[GOOD])
    text, sources = await ask(target(service), "when does it open")
    assert text == "At nine."
    assert sources is not None
    assert [hit.remote_id for hit in sources.hits or ()] == ["1", "2"]
    body = service.body("chat")
    assert body.keys() == {"model", "messages", "stream", "request_id"}
    assert (body["model"], body["stream"], body["request_id"]) == ("glm-4-flash", True, sources.request_id)
    system, user = body["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    lines = user["content"].splitlines()
    assert [json.loads(line) for line in lines if line.startswith("{")] == [
        {"passage": 1, "text": "The office opens at nine."},
        {"passage": 2, "text": 'It "closes" at\nfive.'},
    ]
    assert lines[-1] == "when does it open"
    [sent] = [request for request in service.requests if request.url.path.endswith("/chat/completions")]
    assert str(sent.url) == "https://open.bigmodel.cn/api/paas/v4/chat/completions"
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.headers["accept"] == "text/event-stream"


async def test_no_model_is_asked_without_hits() -> None:
    service = ScriptedService(retrieve=[ok([passage(" ")])], chat=[GOOD])
    assert await ask(target(service)) == ("", Sources(()))
    assert "chat" not in service.counts


async def test_at_most_ten_passages_and_12000_characters_are_sent() -> None:
    many = ScriptedService(
        retrieve=[ok([passage(f"p{n}", str(n % 3), 1 - n / 100) for n in range(15)])], chat=[GOOD]
    )
    _, sources = await ask(target(many))
    assert sources is not None
    assert sum(len(hit.passages) for hit in sources.hits or ()) == MAX_PASSAGES == 10
    long = ScriptedService(retrieve=[ok([passage("§" * 5000, str(n)) for n in range(4)])], chat=[GOOD])
    _, sources = await ask(target(long))
    assert sources is not None
    assert [len(hit.passages[0].text) for hit in sources.hits or ()] == [5000, 5000, 2000]
    assert long.body("chat")["messages"][-1]["content"].count("§") == MAX_CHARACTERS == 12_000


@pytest.mark.parametrize(("turn_count", "kept_count"), [(0, 0), (2, 2), (7, 7), (20, 7)])
async def test_history_is_sent_and_its_oldest_part_dropped(turn_count: int, kept_count: int) -> None:
    service = ScriptedService(retrieve=[FOUND], chat=[GOOD])
    await ask(target(service), "now", turns=turns(turn_count))
    _, *spoken = service.body("chat")["messages"]
    assert len(spoken) == 2 * kept_count + 1 <= 15
    assert [message["role"] for message in spoken] == ["user", "assistant"] * kept_count + ["user"]
    assert [message["content"] for message in spoken[:-1]] == [
        text for n in range(turn_count - kept_count, turn_count) for text in (f"q{n}", f"a{n}")
    ]
    assert service.body("retrieve")["query"] == ("now" if not turn_count else f"now\nq{turn_count - 1}")


@pytest.mark.parametrize("turn_count", [2, 20])
async def test_application_gets_the_history_and_the_documents(turn_count: int) -> None:
    service = ScriptedService(invoke=[ok({"content": "yes", "requestId": "r"})], slice_info=[404])
    await ask(target(service), "now", APP, turns=turns(turn_count), among=["12"], streamed=False)
    body = service.body("invoke")
    assert body["document_ids"] == [12]
    assert len(body["prompt"]) == 2 * min(turn_count, 7) + 1
    assert body["prompt"][-3:] == [
        {"role": "user", "content": f"q{turn_count - 1}"},
        {"role": "assistant", "content": f"a{turn_count - 1}"},
        {"role": "user", "content": "now"},
    ]
    await ask(target(service), "now", APP, streamed=False)
    assert "document_ids" not in service.body("invoke")


async def test_reasoning_is_not_part_of_the_answer() -> None:
    thought = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"hm"}}]}\n\n'
    text, _ = await ask(target(ScriptedService(retrieve=[FOUND], chat=[(200, thought + GOOD[1])])))
    assert text == "At nine."


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (event(finish_reason="length"), "reached the model's output limit"),
        (event(finish_reason="sensitive"), "the service's content policy blocked the rest"),
        (event(finish_reason="network_error"), "network error; ask again"),
        (event(finish_reason="model_context_window_exceeded"), "exceed the model's context window"),
        (event(finish_reason="tool_calls"), "(tool_calls)"),
        (b"", "ask again"),
        (b"data: [DONE]\n\n", "ask again"),
        (b'data: {"choices": [{"ind', "ask again"),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_unfinished_answer_is_interrupted(end: bytes, words: str, streamed: bool) -> None:
    reason = json.loads(end[6:])["choices"][0].get("finish_reason", "") if b"finish" in end else ""
    reply = (200, event("At ") + end) if streamed else completion("At ", reason)
    answers, heard = account_of(target(ScriptedService(retrieve=[FOUND], chat=[reply]))).answers, ""
    with pytest.raises(Unavailable) as caught:
        async for piece in answers.answer(Question("when", FLASH, streamed=streamed)):
            assert isinstance(piece, str)
            heard += piece
    assert heard == "At "
    assert caught.value.reason.startswith("the answer is incomplete")
    assert words in caught.value.reason


GATEWAY: list[tuple[Any, type[TargetError], str]] = [
    ((429, {"error": {"code": "1113", "message": "余额不足"}}), Halted, "quota"),
    ((400, {"error": {"code": "1301", "message": "unsafe"}}), Rejected, ""),
    ((404, {"timestamp": 1, "status": 404, "error": "Not Found"}), NotOffered, ""),
    ((200, "<html>"), Unsure, ""),
    (httpx.ReadTimeout("slow"), Unsure, ""),
]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(("reply", "kind", "halt"), GATEWAY)
async def test_errors_are_classified_like_elsewhere(
    reply: Any, kind: type[TargetError], halt: str, streamed: bool
) -> None:
    service = ScriptedService(retrieve=[FOUND], chat=[reply])
    with pytest.raises(kind) as caught:
        await ask(target(service), streamed=streamed)
    assert getattr(caught.value, "halt", "") == halt
    assert service.counts["chat"] == 1, "a question costs money"


async def test_stream_error_is_classified_like_elsewhere_and_quotes_no_key() -> None:
    error = f'data: {{"error": {{"code": "1301", "message": "unsafe, {KEY}"}}}}\n\n'.encode()
    with pytest.raises(Rejected) as caught:
        await ask(target(ScriptedService(retrieve=[FOUND], chat=[(200, event("At ") + error)])))
    assert "unsafe" in caught.value.reason
    assert KEY not in caught.value.reason


async def test_applications_that_cannot_be_queried_are_missing() -> None:
    service = ScriptedService(**{"sse-invoke": [404], "invoke": [404], "applications": [ok({"list": []})]})
    clock = Clock()
    zhipu = target(service, clock)
    for _ in range(2):
        with pytest.raises(NotOffered):
            await ask(zhipu, by=APP)
        clock.now += 60.0
    with pytest.raises(NotOffered):
        await account_of(zhipu).answers.applications.list_all()
    assert "applications" not in service.counts


async def test_only_a_streamed_answer_is_requested_as_a_stream() -> None:
    reply = ok({"requestId": "r", "content": "At nine."})
    service = ScriptedService(**{"sse-invoke": [404], "invoke": [reply], "slice_info": [404]})
    assert (await ask(target(service), by=APP))[0] == "At nine."
    assert service.body("sse-invoke")["incremental"] is True
    assert "incremental" not in service.body("invoke")
    assert (await ask(target(service), by=APP, streamed=False))[0] == "At nine."
    assert "incremental" not in service.body("invoke")
