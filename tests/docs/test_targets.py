"""Runs the consoles on the targets' pages with real stand-ins, and compares their tables with the program."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from kbsync.config.kinds import Whole
from kbsync.core.links import EXTENSIONS as LINKS
from kbsync.core.names import MAX_NAME_BYTES, Naming
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.gptbots import config, target, uploads
from kbsync.targets.gptbots.config import CUTTING, KINDS, RANKING_MODELS, GptbotsTargetConfig
from kbsync.targets.gptbots.shapes import SENTENCES, TOO_MANY
from kbsync.targets.gptbots.shapes import classify_response as classify_gptbots
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import PAGE_SIZE
from kbsync.targets.lightrag.config import LightragTargetConfig
from kbsync.targets.lightrag.target import EXTENSIONS as LIGHTRAG_EXTENSIONS
from kbsync.targets.services.dialects import DIALECTS, RERANK_PATH
from kbsync.targets.zhipu.config import EXTENSIONS, SLICES, ZhipuSearchConfig
from kbsync.targets.zhipu.errors import SENTENCES as SENTENCES_OF_ZHIPU
from kbsync.targets.zhipu.errors import NotFound
from kbsync.targets.zhipu.errors import classify_response as classify_zhipu
from kbsync_standin.__main__ import read_options
from kbsync_standin.application import Application
from kbsync_standin.control import PREFIX, ROUTES
from kbsync_standin.dify.app import DifyApplication
from kbsync_standin.gptbots.app import GptbotsApplication
from kbsync_standin.gptbots.rules import RANKING_MODELS as TAKEN_MODELS
from kbsync_standin.lightrag.app import SUPPORTED, LightragApplication
from kbsync_standin.openwebui.app import OpenWebuiApplication
from kbsync_standin.ragflow.app import RagflowApplication
from kbsync_standin.zhipu import ZhipuApplication
from kbsync_standin.zhipu.behaviour import KINDS as FAULTS_OF_ZHIPU
from tests.docs.console import Console, without_measurements
from tests.docs.pages import ROOT, blocks
from tests.share import long
from tests.targets.blocks import block, target_context

FOLDER = ROOT / "docs" / "targets"
ZHIPU, STAND_IN = FOLDER / "zhipu.md", ROOT / "docs" / "internals" / "stand-in.md"
CALLS = ROOT / "docs" / "internals" / "calls.md"
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
GPTBOTS, VECTORS = FOLDER / "gptbots.md", FOLDER / "vectors.md"
PREFERRED = ("txt", "md", "doc", "docx", "pdf", "ppt", "pptx", "xls", "xlsx", "csv", *sorted(LINKS))
LIGHTRAG, OPENWEBUI, RAGFLOW = (FOLDER / f"{name}.md" for name in ("lightrag", "openwebui", "ragflow"))


@long
@pytest.mark.parametrize(
    "page", [ZHIPU, STAND_IN, GPTBOTS, OPENWEBUI, LIGHTRAG, RAGFLOW, VECTORS], ids=lambda page: page.stem
)
def test_console_output_on_the_page_is_real(page: Path, tmp_path: Path) -> None:
    with closing(Console(tmp_path)) as console:
        for step, printed in console.follow(blocks(page, "console", "yaml")):
            assert without_measurements(printed) == without_measurements(step.output), step.command


def table(page: Path, heading: str) -> list[list[str]]:
    """Return the rows of the first table below the row that begins with `heading`, as cells."""
    below = page.read_text().split(f"\n| {heading}", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in below.splitlines()[2:]]


def test_documented_names_are_the_generated_ones() -> None:
    digest = hashlib.sha256(b"hello\n").hexdigest()
    rows = table(ZHIPU, "file, with the content `hello`")
    assert len(rows) > 3
    for cells in rows:
        path, tagged, plain = (cell.strip("`") for cell in cells)
        assert Naming(style="tagged").name(path, digest) == tagged
        assert Naming(style="plain").name(path, digest) == plain
    assert f"`{Naming().name('intro.md', digest, 1)}`" in ZHIPU.read_text()
    assert f"`{Naming(style='plain').name('intro.md', digest, 1)}`" in ZHIPU.read_text()


def test_documented_slicing_methods_are_accepted() -> None:
    documented = {int(cells[0]): cells[2].split() for cells in table(ZHIPU, "`knowledge_type`")}
    assert documented.keys() == SLICES.keys()
    assert all(sorted(documented[number]) == sorted(SLICES[number]) for number in documented)


def test_documented_formats_are_accepted() -> None:
    assert set(PREFERRED) == EXTENSIONS
    assert f"| formats | {' '.join(PREFERRED)} |" in ZHIPU.read_text()
    assert f"| {' '.join(PREFERRED)} |" in (FOLDER / "README.md").read_text()


MEANINGS: dict[str, tuple[type[TargetError], str]] = {
    "may have been stored": (Unsure, ""),
    "not stored": (Unavailable, ""),
    "halt `credentials`": (Halted, "credentials"),
    "halt `quota`": (Halted, "quota"),
    "the document is to blame": (Rejected, ""),
    "kbsync resends it a few times": (Rejected, ""),
    "not found": (NotFound, ""),
    "no such call": (NotOffered, ""),
}


def test_page_lists_the_reaction_to_each_code() -> None:
    in_docs = {code: what for what, codes in table(ZHIPU, "meaning, and") for code in codes.split()}
    assert in_docs.keys() == SENTENCES_OF_ZHIPU.keys()
    for code, what in in_docs.items():
        [meaning] = [text for beginning, text in MEANINGS.items() if what.startswith(beginning)]
        # The response of an optional call with this code under HTTP 200.
        body = {"code": int(code), "message": "no more words"}
        response = HttpResponse("upload-url", 200, {}, body, "", 0.0)
        error = classify_zhipu(response)
        assert (type(error), getattr(error, "halt", "")) == meaning, code
        assert getattr(error, "may_pass", False) == what.startswith("kbsync resends it a few times")


def test_control_api_is_documented() -> None:
    in_docs = {path for cells in table(STAND_IN, "| |") for path in re.findall(r"(/_standin\S*)`", cells[0])}
    assert {path.rstrip(",") for path in in_docs} == {PREFIX + route for route in ROUTES}


def test_documented_stand_in_commands_work() -> None:
    lines = [line for block in blocks(STAND_IN, "sh") for line in block.text.splitlines()]
    kinds = set()
    for line in lines:
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "kbsync_standin"]
        options = read_options(words[3:])
        for fault in options.faults:
            kinds.add(fault.kind)
            description = FAULTS_OF_ZHIPU.get(fault.kind)
            assert description is None or all(f" {name}: " in description for name in fault.args)
    assert len(kinds) == len(lines)


# -- GPTBots


def test_documented_fault_kinds_are_accepted() -> None:
    in_docs = {cells[0].strip("`"): cells[1].partition(",")[0].split() for cells in table(GPTBOTS, "kind")}
    assert {kind: set(files) for kind, files in in_docs.items()} == {
        kind: set(files) for kind, files in KINDS.items()
    }
    assert {file for files in in_docs.values() for file in files} == config.EXTENSIONS


async def test_documented_limits_are_enforced() -> None:
    most = {key: kind.most for key, kind in CUTTING.items() if isinstance(kind, Whole)}
    settings = block(
        GptbotsTargetConfig, base_url="https://gptbots.test", api_key="key", knowledge_base_id="1"
    )
    gptbots = target.GptbotsTarget(settings, target_context())
    limits = gptbots.limits
    await gptbots.aclose()
    rows = table(GPTBOTS, "what | limit")
    assert f"default: {config.CHUNK_TOKEN}" in " ".join(rows[2][2:])
    assert f"default: {config.HEADER_ROW}" in " ".join(rows[3][2:])
    assert [cells[:2] for cells in rows] == [
        ["a pdf", f"{limits.max_bytes_by_extension['pdf'] // 10**6} MB"],
        ["any other document", f"{(limits.max_bytes or 0) // 10**6} MB"],
        ["`chunk_token`", f"{most['chunk_token']:,}"],
        ["`header_row`", f"{most['header_row']}"],
        ["new documents in a request", f"{uploads.MAX_FILES}"],
        ["changed texts in a request", f"{limits.batch}"],
        ["bytes of documents in a request", f"{uploads.MAX_REQUEST_BYTES // 10**6} MB"],
        ["ids in a status request or a deletion", f"{target.MAX_IDS}"],
        ["rows of a page of the list", f"{PAGE_SIZE}"],
        ["passages that a search finds", f"{target.MAX_PASSAGES}"],
        ["a document's name", f"{MAX_NAME_BYTES} bytes"],
    ]
    assert limits.batch == uploads.MAX_CHANGED_TEXTS


def test_documented_ranking_models_match_the_stand_in() -> None:
    [row] = [
        line for line in CONFIGURATION.splitlines() if line.startswith("| `target.search.rerank_version`")
    ]
    assert tuple(re.findall(r"`([\w-]+)`", row.split(" | ")[2])) == RANKING_MODELS == TAKEN_MODELS


ACTIONS = {
    "halts with `credentials`": (Halted, "credentials"),
    "halts with `knowledge-base-missing`": (Halted, "knowledge-base-missing"),
    "blames the document": (Rejected, ""),
    "sends fewer at a time": (Rejected, ""),
    "looks first for the add or update": (Unsure, ""),
    "retries later": (Unavailable, ""),
}


def test_page_lists_the_reaction_to_each_gptbots_code() -> None:
    in_docs = dict(table(GPTBOTS, "code | what kbsync does"))
    assert in_docs.keys() == SENTENCES.keys()
    for code, what in in_docs.items():
        [deed] = [deed for beginning, deed in ACTIONS.items() if what.startswith(beginning)]
        # A response with this code under HTTP 200.
        body = {"code": int(code), "message": "no more words"}
        error = classify_gptbots(HttpResponse("add", 200, {}, body, "", 0.0))
        assert (type(error), getattr(error, "halt", "")) == deed, code
    assert in_docs[TOO_MANY].startswith("sends fewer")


# -- vectors


def test_documented_dialects_are_implemented() -> None:
    in_docs = {cells[0].strip("`"): cells[3] for cells in table(VECTORS, "`type` | speaks to")}
    assert in_docs.keys() == DIALECTS.keys()
    for dialect, most in in_docs.items():
        assert most.startswith(f"{DIALECTS[dialect].most_items} passages"), dialect  # type: ignore[index]


def test_calls_of_every_dialect_are_documented() -> None:
    in_docs = {cells[0].strip("`"): cells[1:] for cells in table(CALLS, "`type`")}
    assert in_docs == {
        dialect: [f"`POST {spec.path}`", str(spec.most_items), f"`POST {RERANK_PATH}`", str(spec.most_texts)]
        for dialect, spec in DIALECTS.items()
    }


def test_zhipu_search_defaults_are_documented() -> None:
    section = CONFIGURATION.partition("## Zhipu")[2].partition("\n## ")[0]
    in_docs = dict(re.findall(r"^\| `target\.search\.(\w+)` \| `?([^`|]+?)`? \|", section, re.MULTILINE))
    service_defaults = {"recall_ratio": "the service's", "fractional_threshold": "none"}
    config = ZhipuSearchConfig()
    assert in_docs == {
        field.name: service_defaults.get(field.name, str(getattr(config, field.name)))
        for field in fields(config)
    }


# -- calls


def documented(application: type[Application[Any, Any]], piece: str = "(?!)") -> list[tuple[str, str]]:
    """Return the application's calls without file addresses. `piece`: the page's name for {id}."""
    routes = [(route.method, re.sub(piece, "{id}", route.path)) for route in application.routes]
    return [(how, path) for how, path in routes if not path.startswith("/files/")]


@pytest.mark.parametrize(
    ("heading", "service", "routes"),
    [
        ("## Zhipu BigModel", "zhipu", documented(ZhipuApplication)),
        ("## GPTBots", "gptbots", documented(GptbotsApplication)),
        ("## Open WebUI", "openwebui", documented(OpenWebuiApplication, r"\{\w+\}")),
        ("## LightRAG", "lightrag", documented(LightragApplication)),
        ("## Dify", "dify", documented(DifyApplication)),
        ("## RAGFlow", "ragflow", documented(RagflowApplication)),
    ],
    ids=["zhipu", "gptbots", "openwebui", "lightrag", "dify", "ragflow"],
)
def test_documented_calls_are_made_by_the_target_and_answered_by_the_stand_in(
    heading: str, service: str, routes: Iterable[tuple[str, str]]
) -> None:
    section = CALLS.read_text().partition(f"{heading}\n")[2].partition("\n## ")[0]
    used, aside = section.split("| not used |")
    assert sorted(calls(used)) == sorted(routes)
    assert not set(calls(aside)) & set(routes)
    files = [*ROOT.glob(f"kbsync/targets/{service}/*.py"), *ROOT.glob(f"kbsync/accounts/{service}*.py")]
    source = "".join(path.read_text() for path in files)
    for _, path in routes:  # each fixed beginning is in the code of the target or its account
        assert re.split(r"\{id\}|text/|spreadsheet/|qa/", path)[0].rstrip("/") in source, path


def calls(text: str) -> list[tuple[str, str]]:
    return re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (\S+)`", text)


# -- lightrag


def test_unkept_lightrag_promises_are_documented() -> None:
    in_docs = {int(re.findall(r"[0-9]+", cells[0])[0]): cells[1] for cells in table(LIGHTRAG, "promise")}
    assert in_docs == dict(LightragTargetConfig.unkept)


def test_lightrag_formats_match_what_is_sent_and_accepted() -> None:
    section = LIGHTRAG.read_text().partition("with these extensions:")[2].partition(". LightRAG")[0]
    assert set(section.replace(",", " ").replace(" and ", " ").split()) == LIGHTRAG_EXTENSIONS
    assert {f".{lightrag_extension}" for lightrag_extension in LIGHTRAG_EXTENSIONS} == set(SUPPORTED.split())
