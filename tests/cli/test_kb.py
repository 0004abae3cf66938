"""Tests `kbsync kb` with a real stand-in: knowledge bases of an account, their settings, its applications."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import pytest

from kbsync_standin.zhipu import HOME_ID
from tests.cli.sandbox import Sandbox
from tests.cli.zhipu import ZhipuSandbox
from tests.share import long


class TypingPerson(io.StringIO):
    """A person at a terminal who types this."""

    def isatty(self) -> bool:
        return True


def bases(zhipu: ZhipuSandbox) -> dict[str, str]:
    """Return the name of every base by id."""
    return {
        knowledge_base["id"]: knowledge_base["name"]
        for knowledge_base in zhipu.run("kb", "list", "--json").json["knowledge_bases"]
    }


@long
def test_create_prints_the_config_line_for_the_new_base(zhipu: ZhipuSandbox) -> None:
    completed = zhipu.run("kb", "create", "guides", "--model", "embedding-3-pro", "--description", "How to")
    assert completed.code == 0, completed.err
    key, _, value = completed.out.strip().partition(": ")
    assert key == "knowledge_id"
    assert bases(zhipu)[value.strip('"')] == "guides"
    zhipu.aim(base=value.strip('"'))
    zhipu.mirror({"a.md": "alpha"})
    [result] = [zhipu.run("kb", "show", "--json").json["knowledge_base"]]
    assert (result["name"], result["model"], result["description"]) == ("guides", "Embedding-3-pro", "How to")
    assert (result["documents"], result["ours"], result["mirrors"]) == (1, 1, ["handbook"])


@pytest.mark.parametrize("base_id", ["missing", "null", "empty"])
def test_creating_a_base_needs_no_base_id(zhipu: ZhipuSandbox, base_id: str) -> None:
    config = zhipu.aim()
    text, line = config.read_text(), f'      knowledge_id: "{HOME_ID}"\n'
    assert line in text
    config.write_text(text.replace(line, LEFT_OUT[base_id]))
    assert bases(zhipu) == {HOME_ID: "handbook"}
    assert zhipu.run("kb", "models").code == zhipu.run("kb", "capacity").code == 0
    assert zhipu.run("kb", "show", HOME_ID).code == 0
    result = zhipu.run("kb", "create", "first", "--json").check_success()
    assert result.json["config"] == f'knowledge_id: "{result.json["knowledge_base"]["id"]}"'
    assert zhipu.run("kb", "delete", result.json["knowledge_base"]["id"], "--yes", "first").code == 0
    zhipu.run("kb", "show").check_refusal(2, "knowledge_id")
    for words in (["--once"], ["status"], ["doctor"]):
        completed = zhipu.run(*words)
        assert completed.code == 2
        assert "mirrors[0].target.knowledge_id" in completed.err + completed.out
        assert "kbsync kb list" in completed.err + completed.out
        assert "kbsync kb create NAME" in completed.err + completed.out


def test_missing_base_id_is_explained_for_a_config_from_a_pipe(zhipu: ZhipuSandbox) -> None:
    """A pipe, as in `--config <(decrypt config.yaml)`, can be read only once."""
    config = zhipu.aim()
    reader, writer = os.pipe()
    try:
        os.write(writer, config.read_bytes().replace(f'      knowledge_id: "{HOME_ID}"\n'.encode(), b""))
        os.close(writer)
        result = zhipu.run("--once", "--config", f"/dev/fd/{reader}")
    finally:
        os.close(reader)
    result.check_refusal(2, "mirrors[0].target.knowledge_id", "to list the account's knowledge bases: ")


LEFT_OUT = {"missing": "", "null": "      knowledge_id:\n", "empty": '      knowledge_id: ""\n'}


@pytest.mark.parametrize("kind", ["lost-answer", "cut-body"])
def test_lost_response_leaves_one_base_and_its_id_is_found(zhipu: ZhipuSandbox, kind: str) -> None:
    zhipu.service.play(kind, op="create-base")
    result = zhipu.run("kb", "create", "guides", "--json").check_success()
    base_ids = [base_id for base_id, name in bases(zhipu).items() if name == "guides"]
    assert base_ids == [result.json["knowledge_base"]["id"]]
    second = zhipu.run("kb", "create", "guides")
    assert (second.code, second.out, base_ids[0] in second.err) == (2, "", True)


@pytest.mark.parametrize(
    ("base_id", "fault"),
    [
        ("", "is empty"),
        ("../models", "'../models' is not an id"),
        ("1?all=1", "'1?all=1' is not an id"),
        ("\udcff", "'\\xff' is not an id"),
    ],
)
def test_id_that_would_change_the_meaning_of_a_url_is_refused(
    zhipu: ZhipuSandbox, base_id: str, fault: str
) -> None:
    for words in (["kb", "show"], ["kb", "update"], ["kb", "delete"], ["kb", "app", "show"]):
        zhipu.run(*words, base_id).check_refusal(2, "Invalid value for", f": {fault}; see: kbsync kb")
    assert zhipu.service.server.requests.total == 0


def test_application_id_that_is_not_utf8_is_refused(zhipu: ZhipuSandbox) -> None:
    result = zhipu.run("ask", "why", "--app", "\udcff")
    assert (result.code, result.err) == (2, "kbsync: handbook: \\xff is not text (UTF-8)\n")


def test_models_are_listed_from_a_table_when_the_service_lists_none(zhipu: ZhipuSandbox) -> None:
    listed = zhipu.run("kb", "models", "--json").json["models"]
    assert [row["id"] for row in listed] == ["3", "11", "12"]
    zhipu.service.turn(not_offered=["models"])
    models = zhipu.run("kb", "models", "--json").json["models"]
    assert [model["name"] for model in models] == [row["name"] for row in listed]
    assert zhipu.run("kb", "create", "guides").code == 0


def test_foreign_names_cannot_move_the_cursor(zhipu: ZhipuSandbox) -> None:
    assert zhipu.run("kb", "create", "evil\x1b[2J\nname").code == 0
    for words in (["kb", "list"], ["kb", "create", "evil\x1b[2J\nname"]):
        result = zhipu.run(*words, tty=True)
        assert "\x1b[2J" not in result.out + result.err


@long
def test_capacity_is_shown(zhipu: ZhipuSandbox) -> None:
    zhipu.mirror({"a.md": "x" * 1000})
    zhipu.service.turn(capacity_bytes=4000)
    usage = {"used_bytes": 1000, "total_bytes": 4000, "used_words": 333, "total_words": 1333}
    assert zhipu.run("kb", "capacity", "--json").json == usage
    bytes_, words = "1.0 kB of 4.0 kB used (25%)\n", "333 of 1,333 words used (25%)\n"
    assert zhipu.run("kb", "capacity").out == bytes_ + words
    zhipu.service.turn(not_offered=["capacity"])
    zhipu.run("kb", "capacity").check_refusal(2, "doesn't support this request")


@long
def test_exhausted_account_is_reported_before_anything_is_sent(zhipu: ZhipuSandbox) -> None:
    """The account has bytes left, but no words."""
    zhipu.mirror({"a.md": "x" * 3000})
    zhipu.service.turn(capacity_words=1000)
    zhipu.write("b.md", "y" * 30)
    assert "used all its 1,000 words" in zhipu.run("plan").out + zhipu.run("plan").err
    doctor = zhipu.run("doctor")
    assert doctor.code == 3
    assert "1,000 of 1,000 words: full" in doctor.out
    uploads = zhipu.service.server.requests.by_op["upload"]
    result = zhipu.run("--once")
    assert result.code == 3
    assert "used all of its 1,000 words" in result.out + result.err
    assert zhipu.service.server.requests.by_op["upload"] == uploads
    zhipu.service.turn(capacity_words=1040)
    assert "1,000 of 1,040 words" in zhipu.run("doctor").out


@long
def test_free_changes_need_no_confirmation_and_keep_other_settings(zhipu: ZhipuSandbox) -> None:
    zhipu.mirror({"a.md": "alpha"})
    words = ("--name", "manual", "--description", "new", "--set", "icon=book")
    result = zhipu.run("kb", "update", HOME_ID, *words, "--json").check_success()
    assert result.json["knowledge_base"]["name"] == "manual"
    assert result.json["knowledge_base"]["settings"] == {
        "background": "blue",
        "icon": "book",
        "contextual": "0",
    }
    assert [document["stat"] for document in zhipu.service.documents()] == [1]


@long
def test_changing_the_model_asks_first_because_it_costs(zhipu: ZhipuSandbox) -> None:
    zhipu.mirror({"a.md": "alpha"})
    zhipu.run("kb", "update", HOME_ID, "--model", "12").check_refusal(2, "1 document", "expense")
    assert zhipu.run("kb", "show", "--json").json["knowledge_base"]["model"] == "Embedding-3"
    assert zhipu.run("kb", "update", HOME_ID, "--model", "12", "--yes", "handbook").code == 0
    assert zhipu.run("kb", "show", "--json").json["knowledge_base"]["model"] == "Embedding-3-pro"


@long
def test_model_change_notifies_the_callback_of_each_finished_document(
    zhipu: ZhipuSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    zhipu.mirror({"a.md": "alpha"})
    monkeypatch.setenv("TOKEN", "hush-hush-hush")
    url = "https://events.example.org/kb"
    words = ["kb", "update", HOME_ID, "--callback", url, "--header", "X-Token=env:TOKEN", "--yes", "handbook"]
    assert zhipu.run(*words).code == 2
    assert zhipu.run("kb", "update", HOME_ID, "--model", "12", "--header", "X-Token=env:TOKEN").code == 2
    result = zhipu.run(*words, "--model", "12").check_success()
    assert "hush" not in result.out + result.err
    [document] = zhipu.service.server.app.documents.values()
    assert (document.callback.url, dict(document.callback.headers)) == (url, {"X-Token": "hush-hush-hush"})


@long
def test_delete_shows_the_contents_and_requires_the_name(
    zhipu: ZhipuSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    zhipu.mirror({"a.md": "alpha"})
    zhipu.service.plant("others.txt", "not ours")
    for words in ([], ["--yes", "yes"]):
        zhipu.run("kb", "delete", HOME_ID, *words).check_refusal(
            2, "2 documents, 13 B, 1 of them ours", "handbook"
        )
    monkeypatch.setattr(sys, "stdin", TypingPerson("Handbook\n"))
    assert zhipu.run("kb", "delete", HOME_ID).code == 2
    assert bases(zhipu) == {HOME_ID: "handbook"}
    monkeypatch.setattr(sys, "stdin", TypingPerson("handbook\n"))
    assert zhipu.run("kb", "delete", HOME_ID).code == 0
    assert bases(zhipu) == {}
    assert zhipu.run("--once").code == 3


@long
def test_delete_with_a_lost_response_is_carried_out_once(zhipu: ZhipuSandbox) -> None:
    zhipu.service.play("lost-answer", op="delete-base")
    result = zhipu.run("kb", "delete", HOME_ID, "--yes", "handbook", "--json")
    assert (result.code, result.json) == (0, {"deleted": HOME_ID, "name": "handbook"})
    assert bases(zhipu) == {}


@pytest.mark.parametrize("command", ["show", "delete", "update"])
@pytest.mark.parametrize("form", ["404", "code", "null"])
def test_unknown_base_exits_with_code_3(zhipu: ZhipuSandbox, command: str, form: str) -> None:
    zhipu.service.turn(deleted_base=form)
    zhipu.run("kb", command, "4711", *(["--name", "x"] if command == "update" else [])).check_refusal(
        3, "4711", "kbsync kb list"
    )


@pytest.mark.parametrize("words", ["list", "callback show"])
def test_embedded_base_needs_no_management(sandbox: Sandbox, words: str) -> None:
    sandbox.configure()
    result = sandbox.run("kb", *words.split())
    assert (result.code, "built-in" in result.err) == (2, True)


def test_several_service_mirrors_require_a_choice(zhipu: ZhipuSandbox) -> None:
    text = zhipu.aim(base="1").read_text()
    (zhipu.root / "more").mkdir()
    second = text.partition("mirrors:\n")[2].replace("handbook", "faq").replace('"1"', '"2"')
    zhipu.config.write_text(text + second.replace(str(zhipu.docs), str(zhipu.root / "more")))
    zhipu.run("kb", "list").check_refusal(2, "--mirror: handbook, faq")
    assert zhipu.run("kb", "list", "--mirror", "faq").code == 0


def test_service_without_its_own_retry_points_to_kbsync_retry(zhipu: ZhipuSandbox) -> None:
    result = zhipu.run("kb", "retry", "--yes", "handbook")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert "zhipu can't retry all" in result.err
    assert "kbsync retry --mirror handbook" in result.err


def create(zhipu: ZhipuSandbox, *words: str) -> str:
    result = zhipu.run("kb", *words, "--json").check_success()
    [created] = [value for key, value in result.json.items() if key != "config"]
    return str(created["id"])


def settings_of(zhipu: ZhipuSandbox, *words: str) -> dict[str, Any]:
    [result] = zhipu.run("kb", *words, "--json").json.values()
    settings: dict[str, Any] = result["settings"]
    return settings


def test_base_is_created_with_its_settings_and_shows_them(zhipu: ZhipuSandbox) -> None:
    base = create(zhipu, "create", "guides", "--set", "background=red", "--set", "contextual=true")
    assert settings_of(zhipu, "show", base) == {"background": "red", "icon": "question", "contextual": "1"}
    lines = zhipu.run("kb", "show", base).out.splitlines()
    assert {"background:  red", "contextual:  1"} <= set(lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("create x --set colour=red", "available settings: background, icon, contextual"),
        ("create x --set background=pink", "'pink'; allowed: blue, red, orange, purple, sky, green"),
        ("create x --set contextual=yes", "allowed: 0, 1, false, true"),
        ("create x --set background", "KEY=VALUE"),
        ("create x --set icon=book --set icon=tag", "icon is set twice"),
        (f"update {HOME_ID}", "--set"),
        (f"update {HOME_ID} --set icon=apple", "allowed: question, book, seal"),
        ("app update 1", "--set"),
        ("app create zhipu --set warmth=1", "available settings: top_p, temperature, max_token"),
        ("app create zhipu --set top_p=1", "above 0 and below 1"),
        ("app create zhipu --set temperature=nan", "above 0, at most 1"),
        ("app create zhipu --set max_token=8193", "a whole number, 1 to 8192"),
        ("app update 1 --set recall_method=fuzzy", "allowed: embedding, keyword, mixed"),
        ("app update 1 --set slice_count=0", "a whole number, 1 to"),
        ("app update 1 --set show_recall_result=maybe", "allowed: false, true"),
    ],
)
def test_invalid_setting_is_refused_before_anything_is_sent(
    zhipu: ZhipuSandbox, words: str, message: str
) -> None:
    result = zhipu.run("kb", *words.split())
    assert (result.code, result.out) == (2, "")
    assert message in " ".join(result.err.split())
    assert zhipu.service.request_count() == 0


SETTINGS = (
    "slice_count=5 recall_method=mixed rerank_status=1 rerank_model_name=rerank-pro "
    "embedding_recall_ratio=60 show_recall_result=true temperature=0.5 max_token=2048 param_desc=strict "
    "icon_color=red icon_type=robot_chat"
)


def test_application_is_created_with_its_settings_and_shows_them(zhipu: ZhipuSandbox) -> None:
    words = [argument for setting in SETTINGS.split() for argument in ("--set", setting)]
    ident = create(zhipu, "app", "create", "zhipu", *words)
    application = settings_of(zhipu, "app", "show", ident)
    assert set(SETTINGS.split()) <= {f"{key}={value}" for key, value in application.items()}
    out = zhipu.run("kb", "app", "show", ident).out
    assert "embedding_recall_ratio: 60\n" in out
    assert f"knowledge bases:        {HOME_ID}\n" in out


def test_application_is_created_shown_changed_and_deleted(zhipu: ZhipuSandbox) -> None:
    zhipu.service.play("lost-answer", op="create-application")  # it still creates one
    result = zhipu.run("kb", "app", "create", "helpdesk", "--description", "Answers", "--model", "GLM-4-Plus")
    assert result.code == 0, result.err
    ident = result.out.strip()
    assert zhipu.run("kb", "app", "create", "helpdesk").code == 2
    application = zhipu.run("kb", "app", "show", ident, "--json").json["application"]
    assert (application["name"], application["model"], application["knowledge_bases"]) == (
        "helpdesk",
        "GLM-4-Plus",
        [HOME_ID],
    )
    changed = zhipu.run("kb", "app", "update", ident, "--name", "zhipu", "--json").json["application"]
    assert (changed["name"], changed["description"]) == ("zhipu", "Answers")
    assert [
        application["id"] for application in zhipu.run("kb", "app", "list", "--json").json["applications"]
    ] == [ident]
    assert zhipu.run("kb", "app", "delete", ident).code == 2
    assert zhipu.run("kb", "app", "delete", ident, "--yes", "zhipu").code == 0
    assert zhipu.run("kb", "app", "list", "--json").json == {"applications": []}
    assert zhipu.run("kb", "app", "show", ident).code == 2
