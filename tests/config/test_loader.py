from __future__ import annotations

from pathlib import Path

import pytest

from kbsync.config.model import DeletionRules, DocumentRule, HttpConfig, MirrorConfig, NotifyConfig
from kbsync.config.problems import ConfigError
from kbsync.config.reader import RETIRED, load
from kbsync.errors import UsageError
from kbsync.targets.local.config import LocalTargetConfig
from kbsync.targets.services.config import EmbeddingConfig

from .reading import HOME, mirror, problems, read, told, with_settings


def test_the_smallest_config_has_every_default(tmp_path: Path) -> None:
    config = read(tmp_path, "mirrors: [{name: handbook, folder: /srv/handbook}]")
    assert config.mirrors == (MirrorConfig(name="handbook", folder=Path("/srv/handbook")),)
    assert (config.state_dir, config.http, config.notify) == (None, None, None)
    assert config.path == tmp_path / "config.yaml"


def test_every_setting_arrives_in_the_model(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        """
        state_dir: /var/lib/somewhere
        http: {listen: "[::1]:9753"}
        notify: {command: [/bin/tell, -v], on: [halted]}
        mirrors:
          - name: handbook
            folder: /srv/handbook
            include: ["**/*.md"]
            exclude: ["drafts/", "!drafts/keep.md"]
            settle: 500ms
            settle_longest: 1.5s
            rescan: 1m
            deep_rescan: 2d
            prefix: guides/
            renames: keep
            names: plain
            observer: polling
            deletions: {hold_fraction: 1, hold_count: 0, hold_window: 0s}
            adopt: name
            documents:
              - {match: "faq/*.csv", local: {}}
              - match: "*.md"
            target:
              type: local
              path: kb
              max_bytes: 5
              embedding: {type: onnx, path: ~/model}
              rerank: {type: builtin}
        """,
    )
    assert config.state_dir == Path("/var/lib/somewhere")
    assert config.http == HttpConfig(listen="[::1]:9753")
    assert config.http is not None
    assert (config.http.host, config.http.port) == ("::1", 9753)
    assert config.notify == NotifyConfig(command=("/bin/tell", "-v"), on=("halted",))
    assert config.mirrors == (
        MirrorConfig(
            name="handbook",
            folder=Path("/srv/handbook"),
            include=("**/*.md",),
            exclude=("drafts/", "!drafts/keep.md"),
            settle=0.5,
            settle_longest=1.5,
            rescan=60.0,
            deep_rescan=172800.0,
            prefix="guides/",
            renames="keep",
            names="plain",
            observer="polling",
            deletions=DeletionRules(1.0, 0, 0.0),
            adopt="name",
            documents=(DocumentRule("faq/*.csv", {"local": {}}), DocumentRule("*.md")),
            target=LocalTargetConfig(
                path=tmp_path / "kb", max_bytes=5, embedding=EmbeddingConfig("onnx", Path(HOME, "model"))
            ),
        ),
    )


def test_paths_are_relative_to_the_config_and_keep_symlinks(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    text = "mirrors: [{name: a, folder: link}, {name: b, folder: ~/b}, {name: c, folder: ./x/../c}]"
    folders = [one.folder for one in read(tmp_path, text).mirrors]
    assert folders == [tmp_path / "link", Path(HOME, "b"), tmp_path / "c"]


def test_a_home_that_is_not_known_is_a_problem(tmp_path: Path) -> None:
    assert "no home directory is known for '~nobody-of-that-name'" in "".join(
        told(tmp_path, "mirrors: [{name: a, folder: ~nobody-of-that-name/x}]")
    )


def test_a_target_without_type_is_local(tmp_path: Path) -> None:
    assert mirror(tmp_path, "target: {max_bytes: 7}").target == LocalTargetConfig(max_bytes=7)


def test_a_missing_folder_is_no_config_error(tmp_path: Path) -> None:
    read(tmp_path, f"mirrors: [{{name: a, folder: {tmp_path}/not/there}}]")


def test_all_problems_are_told_at_once_with_file_line_key_and_cure(tmp_path: Path) -> None:
    text = """\
        state_dirr: /x
        http: {listen: 9753}
        mirrors:
          - name: Handbook
            folder: /srv/handbook
            settle: 2
            observer: native
            setle_longest: 60s
            deletions: {hold_count: "5"}
            include: []
          - folder: /srv/b
            name: handbook
            renames: replce
            settle: 2m
          - name: handbook
            folder: /srv/c
            target: {type: dify, api_key: x, knowledge_base_id: "5"}
        """
    assert [(one.line, one.key) for one in problems(tmp_path, text)] == [
        (1, "state_dirr"),
        (2, "http.listen"),
        (4, "mirrors[0].name"),
        (6, "mirrors[0].settle"),
        (8, "mirrors[0].setle_longest"),
        (9, "mirrors[0].deletions.hold_count"),
        (10, "mirrors[0].include"),
        (11, "mirrors[1].settle_longest"),
        (13, "mirrors[1].renames"),
        (15, "mirrors[2].name"),
        (17, "mirrors[2].target.type"),
    ]
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    lines = str(caught.value).split("\n")
    assert len(lines) == 11
    assert lines[0] == (
        f"{tmp_path}/config.yaml:1: state_dirr: unknown key; "
        "allowed: mirrors, state_dir, log_level, http, notify; did you mean state_dir?"
    )
    assert lines[3] == (
        f"{tmp_path}/config.yaml:6: mirrors[0].settle: 2 has no unit; "
        "allowed: a number and a unit, such as 500ms, 2s, 15m, 1h or 1d"
    )
    assert isinstance(caught.value, UsageError)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("setle: 2s", "setle: unknown key; allowed: name, folder,"),
        ("setle: 2s", "; did you mean settle?"),
        ("Deep-Rescan: 2h", "; did you mean deep_rescan?"),
        ("hold_count: 5", "; hold_count belongs into mirrors[].deletions"),
        ("listen: x", "; listen belongs into http"),
        ("settle: 2", "settle: 2 has no unit; allowed: a number and a unit"),
        ("settle: 99ms", "settle: '99ms' is out of bounds; allowed: 100ms to 1d"),
        ("rescan: 0s", "rescan: '0s' is out of bounds; allowed: 1s to 30d"),
        (
            "observer: autos",
            "observer: 'autos' is not taken; allowed: auto, native, polling; did you mean auto?",
        ),
        ("deletions: {hold_count: true}", "deletions.hold_count: true is not taken; allowed: a whole number"),
        ('deletions: {hold_count: "5"}', "deletions.hold_count: '5' is not taken; allowed: a whole number"),
        (
            "deletions: {hold_fraction: 1.1}",
            "deletions.hold_fraction: 1.1 is not taken; allowed: a number from 0",
        ),
        ("deletions: {hold_fraction: .nan}", "deletions.hold_fraction: nan is not taken"),
        ("deletions: 5", "deletions: 5 is not taken; allowed: a block of keys: hold_fraction, hold_count"),
        ("exclude: drafts/", "exclude: a text is not taken; allowed: a list"),
        ("exclude: {a: b}", "exclude: a block of keys is not taken; allowed: a list"),
        ("exclude: [5]", "exclude[0]: 5 is not a pattern; allowed: a text in quotes"),
        ('exclude: ["a", ""]', "exclude[1]: '' matches nothing"),
        ('exclude: ["# note"]', "exclude[0]: '# note' matches nothing; # begins a comment"),
        ('exclude: ["a[z-b]"]', "exclude[0]: 'a[z-b]' matches nothing; allowed: a gitignore pattern"),
        ("include: []", "include: is empty, so nothing would be mirrored"),
        ("include:", "include: has no value; write one or remove the key"),
        ("prefix: 5", "prefix: 5 is not a text"),
        ('prefix: "a\\nb"', "is not taken; allowed: a text on one line"),
        ("target: local", "target: a text is not taken; allowed: a block of keys, such as {type: local}"),
        (
            "target: {type: dify}",
            "target.type: this version has no target type 'dify'; allowed: local, zhipu, gptbots",
        ),
        ("target: {type: locl}", "; did you mean local?"),
        ("target: {max_bytes: 0}", "target.max_bytes: 0 is not taken; allowed: a whole number, at least 1"),
        (
            "target: {embedding: {type: cohere}}",
            "this version has no embedding type 'cohere'; allowed: builtin, onnx, openai, jina",
        ),
        (
            "target: {rerank: {type: cohere}}",
            "this version has no rerank type 'cohere'; allowed: builtin, openai, jina",
        ),
        ("target: {embedding: {type: openai, model: m}}", "target.embedding.base_url: is missing"),
        ("target: {embedding: {type: openai, base_url: 'http://h'}}", "target.embedding.model: is missing"),
        ("target: {embedding: {model: m}}", "target.embedding.model: has no meaning with type builtin"),
        (
            "target: {rerank: {type: jina, base_url: 'http://example.com', api_key: k, model: m}}",
            "target.rerank.base_url: is not https, so the API key would travel in the clear",
        ),
        ("documents: [{local: {}}]", "documents[0].match: is required"),
        ("documents: [5]", "documents[0]: 5 is not taken; allowed: a block of keys: match, local, zhipu,"),
        (
            'documents: [{match: "!a"}]',
            "documents[0].match: '!a' matches nothing; allowed: a pattern without",
        ),
        (
            "documents: [{match: a, dify: {x: 1}}]",
            "documents[0].dify: unknown key; allowed: match, local, zhipu, gptbots",
        ),
        ("documents: [{match: a, local: 5}]", "documents[0].local: 5 is not taken; allowed: a block of keys"),
        (
            "documents: [{match: a, local: {x: 1}}]",
            "documents[0].local.x: unknown key; allowed: none in this version",
        ),
    ],
)
def test_a_wrong_setting_is_told_with_what_is_allowed(tmp_path: Path, settings: str, expected: str) -> None:
    [told_problem] = told(tmp_path, with_settings(settings))
    assert told_problem.startswith("4 mirrors[0].")
    assert expected in told_problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path: /x", "1 path: unknown key; allowed: mirrors, state_dir, log_level, http, notify"),
        ("http: {}", "1 http.listen: is required"),
        ("http: {listen: localhost}", "1 http.listen: 'localhost' is not taken; allowed: host:port"),
        ("http: {listen: 127.0.0.1:70000}", "1 http.listen: '127.0.0.1:70000' is not taken"),
        ("http: [a]", "1 http: a list is not taken; allowed: a block of keys: listen"),
        ("notify: {}", "1 notify: tells nobody; allowed: command, url or url_file, or both"),
        ("notify: {command: tell me}", "1 notify.command: a text is not taken; allowed: a list"),
        ("notify: {command: []}", "1 notify.command: is empty; name a program"),
        (
            "notify: {command: [a], on: [halt]}",
            "1 notify.on[0]: 'halt' is not taken; allowed: halted, recovered",
        ),
        ("state_dir: 5", "1 state_dir: 5 is not a path"),
    ],
)
def test_wrong_settings_outside_of_mirrors_are_told(tmp_path: Path, text: str, expected: str) -> None:
    [told_problem] = told(tmp_path, f"{text}\nmirrors: [{{name: a, folder: /srv/a}}]\n")
    assert told_problem.startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("state_dir: /x", "None mirrors: is required"),
        ("mirrors: []", "1 mirrors: is empty; name at least one folder"),
        ("mirrors: {name: a, folder: /x}", "1 mirrors: a block of keys is not taken; allowed: a list"),
        ("mirrors: [7]", "1 mirrors[0]: 7 is not taken; allowed: a block of keys: name, folder"),
        ("mirrors: [{folder: /x}]", "1 mirrors[0].name: is required: unique name"),
        ("mirrors: [{name: x}]", "1 mirrors[0].folder: is required: the folder to mirror"),
        ("mirrors: [{name: -x, folder: /x}]", "1 mirrors[0].name: '-x' is not taken; allowed: lower-case"),
        ("mirrors: [{name: 5, folder: /x}]", "1 mirrors[0].name: 5 is not a text"),
        ("mirrors: [{name: a, folder: ''}]", "1 mirrors[0].folder: '' is not a path"),
    ],
)
def test_wrong_mirrors_are_told(tmp_path: Path, text: str, expected: str) -> None:
    [told_problem] = told(tmp_path, text)
    assert told_problem.removeprefix("1 ").startswith(expected.removeprefix("1 ").removeprefix("None "))


@pytest.mark.parametrize("place", RETIRED)
def test_a_key_that_is_gone_is_told_what_to_write_instead(tmp_path: Path, place: str) -> None:
    *blocks, key = place.removeprefix("mirrors[].").split(".")
    text = f"{{{key}: 1}}"
    for block in reversed(blocks):
        is_list = block.endswith("[]")
        text = f"{{{block.removesuffix('[]')}: {'[' if is_list else ''}{text}{']' if is_list else ''}}}"
    found = told(tmp_path, with_settings(text[1:-1]))
    assert f"{key}: is gone: {RETIRED[place]}" in "".join(found)
    assert "unknown key" not in "".join(found)


def test_what_depends_on_an_unknown_type_is_not_told_as_well(tmp_path: Path) -> None:
    embedding = "{type: openai, base_url: x, api_key: y, model: z}"
    assert len(told(tmp_path, with_settings(f"target: {{embedding: {embedding}}}"))) == 1


def test_a_finding_that_rests_on_a_refused_value_is_not_told(tmp_path: Path) -> None:
    assert len(told(tmp_path, with_settings("settle: 2\nsettle_longest: 1s"))) == 1


def test_findings_between_settings_are_told_beside_other_problems(tmp_path: Path) -> None:
    keys = [one.key for one in problems(tmp_path, with_settings("settle: 2m\nbogus: 1\nrescan: 5"))]
    assert keys == ["mirrors[0].settle_longest", "mirrors[0].bogus", "mirrors[0].rescan"]


def test_an_unreadable_config_is_one_problem(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.yaml", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(ConfigError, match=reason) as caught:
            load(path, {})
        assert [(one.file, one.line) for one in caught.value.problems] == [(path, None)]


def test_a_relative_config_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(tmp_path, "mirrors: [{name: a, folder: docs}]")
    monkeypatch.chdir(tmp_path)
    config = load(Path("config.yaml"), {})
    assert (config.path, config.mirrors[0].folder) == (tmp_path / "config.yaml", tmp_path / "docs")
