"""Tests `kbsync ask` and `kbsync kb app`: answers from an application of the stand-in, citing files."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync_standin.faults import Fault
from kbsync_standin.gptbots import HOME_ID as HOME_AT_GPTBOTS
from tests.cli.sandbox import LONGEST, Sandbox, words_of
from tests.cli.zhipu import ZhipuSandbox, filled_zhipu_sandbox, tidied, zhipu_sandbox
from tests.share import long

HOURS = 'The "office" opens at nine. 周末不开门。'
FORMS = ("quoted", "plain", "wrapped")
PLACEHOLDER = "【示意图序号_1829473032620613632_103】"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZhipuSandbox]:
    """Mirror a folder, with an application; tests leave no fault and no switch behind."""
    files = {
        "guides/hours.md": f"{HOURS}\n\nNothing else.\n",
        "prices.csv": "tea,3\n\ncoffee costs four,4\n",
        "yard.pdf": "wheelbarrow schematic\n",
        "badges.txt": f"Badges look like {PLACEHOLDER} up front.\n",
    }
    others = "The office opens at nine, says somebody else."
    with filled_zhipu_sandbox(tmp_path_factory.mktemp("shared"), files, others) as zhipu:
        assert zhipu.run("kb", "app", "create", "helpdesk").code == 0
        yield zhipu


@pytest.fixture
def zhipu(shared: ZhipuSandbox) -> Iterator[ZhipuSandbox]:
    with tidied(
        shared,
        not_offered=[],
        stream_form="quoted",
        without_positions="",
        key_revoked=False,
        money_gone=False,
    ) as zhipu:
        yield zhipu


@pytest.fixture
def own_sandbox(tmp_path: Path) -> Iterator[ZhipuSandbox]:
    with zhipu_sandbox(tmp_path) as zhipu:
        yield zhipu


def stream(zhipu: ZhipuSandbox, **args: Any) -> None:
    zhipu.service.server.faults.add(Fault("stream", op="sse-invoke", args=args))


@long
def test_answer_lists_the_files_it_is_based_on(zhipu: ZhipuSandbox) -> None:
    result = zhipu.run("ask", "when", "does", "the", "office", "open").check_success()
    assert HOURS in result.out
    assert result.out.endswith("\n\n[1] guides/hours.md\n")
    assert result.err == "kbsync: the answer also uses 1 document outside this mirror\n"


@long
def test_json_has_the_answer_and_its_slices(zhipu: ZhipuSandbox) -> None:
    completed = zhipu.run("ask", "what does coffee cost", "--json")
    assert (completed.code, completed.err) == (0, "")
    result = completed.json
    assert result["cites"]
    assert result["answer"] == "coffee costs four,4"
    [cited] = result["citations"]
    assert (cited["path"], cited["abs_path"]) == ("prices.csv", str(zhipu.docs / "prices.csv"))
    line = {"text": "coffee costs four,4", "page": None, "line": 2, "sheet_name": "Sheet1", "box": None}
    assert cited["passages"] == [line]
    assert (cited["hide_positions"], result["has_old_document"]) == (False, False)


def test_json_gives_the_position_of_a_slice_and_null_where_unknown(zhipu: ZhipuSandbox) -> None:
    """Positions come with the next indexing: this document is an old one."""
    [cited] = zhipu.run("ask", "wheelbarrow schematic", "--json").json["citations"]
    [slice_] = [passage for passage in cited["passages"] if "wheelbarrow" in passage["text"]]
    box = {"x0": 1, "x1": 2, "top": 3, "bottom": 4, "height": 5, "width": 6}
    assert (slice_["page"], slice_["box"]) == (1, box)
    [name] = [
        document["name"] for document in zhipu.service.documents() if document["name"].startswith("yard")
    ]
    zhipu.service.turn(without_positions=name)
    answer = zhipu.run("ask", "wheelbarrow schematic", "--json").json
    assert answer["has_old_document"] is True
    assert [citation["hide_positions"] for citation in answer["citations"]] == [True]


def test_citations_include_the_pictures_of_their_slices(zhipu: ZhipuSandbox) -> None:
    before = zhipu.service.request_count("images")
    answer = zhipu.run("ask", "badges look like what up front", "--json").json
    cited = {citation["path"]: citation["passages"][0] for citation in answer["citations"]}
    assert [image["placeholder"] for image in cited["badges.txt"]["images"]] == [PLACEHOLDER]
    assert zhipu.service.request_count("images") == before


@long
@pytest.mark.parametrize("form", FORMS)
def test_json_reports_tokens_and_duration(zhipu: ZhipuSandbox, form: str) -> None:
    """Whole answers have it, and streams except in the plain form; the answer is the same."""
    zhipu.service.turn(stream_form=form)
    full_answer = zhipu.run("ask", "when does the office open", "--json", "--whole").json["answer"]
    assert HOURS in full_answer
    for words in ([], ["--whole"], ["--model", "glm-4-flash"]):
        answer = zhipu.run("ask", "when does the office open", "--json", *words).json
        assert words[:1] == ["--model"] or answer["answer"] == full_answer
        tokens = {"prompt_tokens": 5, "completion_tokens": len(answer["answer"])}
        expected = {**tokens, "total_tokens": sum(tokens.values())}
        assert answer["usage"] == (None if form == "plain" and not words else expected)


@pytest.mark.parametrize("form", FORMS)
def test_ending_is_shown_once_when_the_last_event_repeats_it(zhipu: ZhipuSandbox, form: str) -> None:
    zhipu.service.turn(stream_form=form)
    full_answer = zhipu.run("ask", "when does the office open", "--json", "--whole").json["answer"]
    stream(zhipu, end="repeated")
    assert zhipu.run("ask", "when does the office open", "--json").json["answer"] == full_answer


@pytest.mark.parametrize("end", ["no-finish", "error", "interrupted"])
@pytest.mark.parametrize("form", FORMS)
def test_interrupted_answer_is_not_treated_as_complete(zhipu: ZhipuSandbox, end: str, form: str) -> None:
    zhipu.service.turn(stream_form=form)
    stream(zhipu, end=end)
    result = zhipu.run("ask", "when does the office open")
    assert result.code == 4
    assert result.out.startswith("The ")  # the partial answer is shown, on its own line
    assert result.out.endswith("\n")
    assert "[1]" not in result.out
    assert "the answer is incomplete" in result.err
    assert ("大模型内部错误" in result.err) is (end != "no-finish")
    stream(zhipu, end=end)
    zhipu.run("ask", "when does the office open", "--json").check_refusal(4)


def test_answer_is_shown_even_without_its_slices(zhipu: ZhipuSandbox) -> None:
    zhipu.service.turn(not_offered=["slice-info"])
    result = zhipu.run("ask", "when does the office open").check_success()
    assert HOURS in result.out
    assert "didn't say which documents" in result.err
    assert not zhipu.run("ask", "when does the office open", "--json").json["cites"]


# -- without an application ----------------------------------------------------------------------------

NO_APPLICATIONS = ["applications", "invoke", "sse-invoke", "slice-info"]


def test_model_answers_from_passages_when_no_application_exists(zhipu: ZhipuSandbox) -> None:
    zhipu.service.turn(not_offered=NO_APPLICATIONS)
    result = zhipu.run("ask", "when does the office open")
    assert (result.code, result.out) == (0, f"{HOURS}\n\n[1] guides/hours.md\n")
    assert "no applications" in result.err
    assert "glm-4-flash answers from search results" in result.err
    quiet = zhipu.run("ask", "when does the office open", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, result.out, "")
    for words in (["ask", "when", "--app", "1"], ["kb", "app", "list"]):
        result = zhipu.run(*words)
        assert (result.code, result.out) == (2, ""), words
        assert "doesn't support this request" in result.err


@pytest.mark.parametrize("missing", [["invoke", "sse-invoke"], NO_APPLICATIONS])
def test_json_names_the_method_used(zhipu: ZhipuSandbox, missing: list[str]) -> None:
    answer = zhipu.run("ask", "when does the office open", "--json").json
    assert answer["way"] == "application"
    assert answer["application"].isdigit()
    zhipu.service.turn(not_offered=missing)
    answer = zhipu.run("ask", "when does the office open", "--json").json
    assert (answer["way"], answer["model"], answer["answer"]) == ("passages", "glm-4-flash", HOURS)
    assert (answer["question"], answer["cites"]) == ("when does the office open", True)
    [cited] = answer["citations"]
    assert (cited["number"], cited["path"]) == (1, "guides/hours.md")
    assert [passage["text"] for passage in cited["passages"]] == [HOURS]


def test_model_can_be_chosen_although_an_application_exists(zhipu: ZhipuSandbox) -> None:
    before = zhipu.service.request_count("applications")
    answer = zhipu.run("ask", "when does the office open", "--model", "glm-4.5-air", "--json").json
    assert (answer["way"], answer["model"]) == ("passages", "glm-4.5-air")
    assert zhipu.service.request_count("applications") == before
    assert zhipu.run("ask", "when", "--model", "a", "--app", "1").code == 2


APPLICATION_COMMANDS = (["ask", "why", "--app"], ["ask", "why", "--whole", "--app"], ["kb", "app", "show"])


@pytest.mark.parametrize("words", APPLICATION_COMMANDS)
def test_unknown_application_is_named_as_one(zhipu: ZhipuSandbox, words: list[str]) -> None:
    zhipu.run(*words, "999").check_refusal(2, "no such application")


@long
def test_model_can_be_switched_off(own_sandbox: ZhipuSandbox) -> None:
    own_sandbox.aim(target="chat_model: ''")
    own_sandbox.mirror({"a.md": "alpha"})
    own_sandbox.service.turn(not_offered=NO_APPLICATIONS)
    own_sandbox.run("ask", "alpha").check_refusal(2, "no model is set to answer questions; pass --model NAME")
    assert own_sandbox.run("ask", "alpha", "--model", "glm-4-flash").out.startswith("alpha\n")
    nobody = own_sandbox.run("ask", "alpha", "--model", "nobody-9")
    assert (nobody.code, "no such model" in nobody.err) == (2, True)


# -- selection -----------------------------------------------------------------------------------------

EITHER = pytest.mark.parametrize("by", [(), ("--model", "glm-4-flash")], ids=["application", "model"])
BOTH = "what does the coffee cost at the office"


@EITHER
@pytest.mark.parametrize(
    ("words", "paths"),
    [
        ((), {"guides/hours.md", "prices.csv"}),
        (("--path", "guides/**"), {"guides/hours.md"}),
        (("--type", "csv"), {"prices.csv"}),
        (("--type", "csv,md"), {"guides/hours.md", "prices.csv"}),
        (("--after", "2020-01-01", "--type", "md"), {"guides/hours.md"}),
    ],
)
def test_only_selected_documents_are_used_for_answers(
    zhipu: ZhipuSandbox, by: tuple[str, ...], words: tuple[str, ...], paths: set[str]
) -> None:
    answer = zhipu.run("ask", BOTH, *by, *words, "--json").json
    assert {citation["path"] for citation in answer["citations"]} == paths
    assert ("coffee" in answer["answer"]) is ("prices.csv" in paths)
    assert ("office" in answer["answer"]) is ("guides/hours.md" in paths)


@EITHER
@pytest.mark.parametrize("words", [("--path", "nowhere/**"), ("--after", "2199-01-01"), ("--type", "pptx")])
def test_nothing_is_sent_when_no_document_is_selected(
    zhipu: ZhipuSandbox, by: tuple[str, ...], words: tuple[str, ...]
) -> None:
    before = zhipu.service.request_count()
    result = zhipu.run("ask", BOTH, *by, *words)
    assert (result.code, result.out) == (0, "")
    assert result.err == f"kbsync: no document matches {' '.join(words)}; the question wasn't sent\n"
    answer = zhipu.run("ask", BOTH, *by, *words, "--json").json
    assert (answer["answer"], answer["citations"], answer["way"]) == ("", [], None)
    assert zhipu.service.request_count() == before


def test_selection_larger_than_the_service_accepts_is_refused(
    zhipu: ZhipuSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kbsync.engine.search.MAX_SELECTED_IDS", 1)
    zhipu.run("ask", BOTH, "--type", "md,csv").check_refusal(2, "narrow or omit them")
    assert zhipu.run("ask", BOTH, "--type", "csv").code == 0


# -- streaming -----------------------------------------------------------------------------------------------


@long
def test_answer_is_streamed_and_an_interrupt_ends_it_cleanly(zhipu: ZhipuSandbox) -> None:
    stream(zhipu, every=0.2)
    process = zhipu.start("ask", "when does the office open", env={"PYTHONUNBUFFERED": ""})
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), 100)
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=LONGEST)
    assert process.returncode == 130
    assert len(first) < 10  # the service had yet to send the rest
    assert (first + rest).endswith(b"\n")
    assert b"Traceback" not in err
    assert b"[1]" not in rest


def test_model_output_cannot_move_the_cursor(zhipu: ZhipuSandbox) -> None:
    planted = zhipu.service.plant("evil.txt", "zebra \x1b[2J stripes")
    try:
        result = zhipu.run("ask", "zebra", tty=True)
        assert "stripes" in result.out
        assert "\x1b[2J" not in result.out
    finally:
        zhipu.service.take_away(planted)


# -- applications --------------------------------------------------------------------------------------


@long
def test_choosing_is_required_unless_the_base_has_exactly_one_application(own_sandbox: ZhipuSandbox) -> None:
    own_sandbox.mirror({"a.md": "alpha"})
    own_sandbox.run("ask", "alpha").check_refusal(2, "kbsync kb app create", "--model glm-4-flash")
    idents = [own_sandbox.run("kb", "app", "create", name).out.strip() for name in ("one", "two")]
    several = own_sandbox.run("ask", "alpha")
    assert several.code == 2
    assert all(ident in several.err for ident in idents)
    assert own_sandbox.run("ask", "alpha", "--app", idents[0]).out.startswith("alpha\n")


# -- targets that can't answer -------------------------------------------------------------------------------

QUESTION = "what's a badge?"


def cure_in(err: str) -> list[str]:
    return list(words_of(err.strip().rpartition(": ")[2]))


@long
def test_embedded_base_cannot_answer_and_offers_search(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "A badge opens the door."})
    sandbox.add_mirror("more")
    assert sandbox.run("--once", "-q").code == 0
    result = sandbox.run("ask", QUESTION, "--mirror", "handbook")
    result.check_refusal(2, "handbook: kbsync's own indexes can't answer questions")
    assert cure_in(result.err) == ["search", "--mirror", "handbook", QUESTION]
    assert "A badge opens the door." in sandbox.run(*cure_in(result.err)).out


@pytest.mark.parametrize("words", ["list", "create helpdesk", "delete 1 --yes helpdesk"])
def test_service_without_applications_is_searched_and_lists_none(sandbox: Sandbox, words: str) -> None:
    """No request is sent: nothing listens at the address."""
    target = f"base_url: 'http://127.0.0.1:9', api_key: k, knowledge_base_id: {HOME_AT_GPTBOTS}"
    sandbox.configure(f"target: {{type: gptbots, {target}}}")
    result = sandbox.run("ask", QUESTION)
    result.check_refusal(2, "a target of type gptbots can't answer questions")
    assert cure_in(result.err) == ["search", QUESTION]
    sandbox.run("kb", "app", *words.split()).check_refusal(2, "a target of type gptbots has no applications")
