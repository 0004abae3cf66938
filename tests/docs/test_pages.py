"""Checks the pages' statements about other files, commands and settings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest

from kbsync.cli.main import COMMANDS, kbsync
from kbsync.config.reader import load
from tests.docs.pages import PAGES, ROOT, anchors, blocks, inline_code, kbsync_lines, name_of, prose
from tools.config_reference import renewed

CONFIGURATION = ROOT / "docs" / "configuration.md"
KEYS = (
    "ZHIPU_API_KEY",
    "OPENAI_API_KEY",
    "JINA_API_KEY",
    "GPTBOTS_API_KEY",
    "EMBEDDING_KEY",
    "OPENWEBUI_API_KEY",
    "LIGHTRAG_API_KEY",
    "DIFY_API_KEY",
    "RAGFLOW_API_KEY",
)
ENVIRONMENT = {"HOME": "/home/ada", **dict.fromkeys(KEYS, "id.secret")}
PROMISES = ROOT / "docs" / "promises.md"
NO_COMMAND = {"…", "NAME"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        # External links aren't requested: tests need no network.
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        aim = (page.parent / target).resolve() if target else page
        assert aim.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(aim), f"{link}: no such heading"


def test_every_page_is_reachable_from_the_readme() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        for link in re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text()):
            aim = (page.parent / link).resolve()
            waiting += aim.glob("*.md") if aim.is_dir() else [aim]
    assert not set(PAGES) - reached


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_exist(page: Path) -> None:
    for words in kbsync_lines(page):
        command = kbsync
        context = click.Context(kbsync)
        # A word may name a command in a group, an option, or an argument, which can be anything.
        for word in words[1:]:
            if isinstance(command, click.Group) and not word.startswith("-") and word not in NO_COMMAND:
                result = command.get_command(context, word)
                if result is not None:
                    command = result
                elif word.isalpha() and command is not kbsync:
                    pytest.fail(f"there is no {word!r} in {' '.join(words)!r}")
            elif word.startswith("--"):
                options = {option for param in command.params for option in param.opts} | {"--help"}
                assert word in options, f"no option {word} in {' '.join(words)!r}"
        if len(words) > 1 and words[1].isalpha() and words[1].islower():
            assert words[1] in (*COMMANDS, "help"), f"no command {words[1]!r} in {' '.join(words)!r}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads_and_is_documented(name: str) -> None:
    assert isinstance(kbsync.get_command(click.Context(kbsync), name), click.Command)
    assert any(words[1:2] == [name] for page in PAGES for words in kbsync_lines(page))


def keys(schema: dict[str, object], above: str = "") -> set[str]:
    """Return every key of a JSON schema, with the keys above it."""
    results = set[str]()
    for part in (schema, *schema.get("oneOf", ())):  # type: ignore[misc]
        for key, inner in part.get("properties", {}).items():
            results |= {f"{above}{key}"} | keys(inner, f"{above}{key}.")
        if "items" in part:
            results |= keys(part["items"], f"{above[:-1]}[]." if above else "")
    return results


def test_documented_keys_match_the_schema() -> None:
    schema = json.loads((ROOT / "config.schema.json").read_text())
    schema_keys = {key.removeprefix("mirrors[].") for key in keys(schema)}
    described = set(re.findall(r"^\| `([a-z_.\[\]]+)` \|", CONFIGURATION.read_text(), re.MULTILINE))
    assert described == schema_keys


def test_documented_defaults_match_the_schema() -> None:
    schema = json.loads((ROOT / "config.schema.json").read_text())
    mirror = schema["properties"]["mirrors"]["items"]["properties"]
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| `([^`]+)` \|", CONFIGURATION.read_text(), re.MULTILINE))
    for key, about in mirror.items():
        if "default" in about:
            assert rows[key] == (about["default"] or '""'), key


def test_key_tables_match_the_model() -> None:
    page = CONFIGURATION.read_text()
    assert page == renewed(page), "renew it: python -m tools.config_reference docs/configuration.md"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=name_of)
def test_configs_in_the_docs_are_valid(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(page, "yaml")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block.text)
        assert load(file, {**ENVIRONMENT, "HOME": str(tmp_path)}).mirrors


def test_example_config_is_mentioned_and_valid() -> None:
    assert "config.example.yaml" in inline_code(CONFIGURATION)
    assert load(ROOT / "config.example.yaml", ENVIRONMENT).mirrors


def test_every_promise_names_existing_tests_including_one_at_a_service() -> None:
    rows = re.findall(r"^\| (\d+)\. (.*)$", PROMISES.read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 12))
    for _, row in rows:
        named = re.findall(r"`(tests/[^`:]+)(?:::(\w+))?`", row)
        assert any(test for _, test in named), row
        for file, test in named:
            assert re.search(rf"^\s*(async )?def {test or 'test_'}", (ROOT / file).read_text(), re.M), (
                file,
                test,
            )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_named_in_the_docs_exist(page: Path) -> None:
    for code in inline_code(page):
        if re.fullmatch(r"(benchmarks|tools|tests|systemd)/[\w/]+\.\w+", code):
            assert (ROOT / code).exists(), code


def test_modules_named_by_the_architecture_page_exist() -> None:
    page = ROOT / "docs" / "internals" / "architecture.md"
    rooms = "|".join(room.name for room in (ROOT / "kbsync").iterdir() if room.is_dir())
    named = set(re.findall(rf"\b(?:{rooms})/[\w/]+", page.read_text()))
    assert len(named) > 20
    existing = {
        name for name in named if (ROOT / "kbsync" / name).is_dir() or (ROOT / f"kbsync/{name}.py").is_file()
    }
    assert named - existing == set()


def test_every_dependency_is_explained_with_its_bound() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "docs" / "internals" / "dependencies.md").read_text()
    rows = dict(re.findall(r"^\| ([\w-]+) \| ([≥<][^|]*) \|", text, re.MULTILINE))
    written = {name: re.sub(r"[\s≥>=]", "", bound) for name, bound in rows.items()}
    split = (re.match(r"([\w-]+)(.*)", text) for text in project["dependencies"])
    assert written == {match[1]: re.sub(r"[>=]", "", match[2]) for match in split if match}


def test_every_decision_record_is_listed() -> None:
    folder = ROOT / "docs" / "internals" / "adr"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == sorted(page.name for page in folder.glob("0*.md"))
