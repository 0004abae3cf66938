from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.config.model import DeletionRules, DocumentRule, HttpConfig, MirrorConfig, NotifyConfig
from kbsync.config.problems import ConfigError
from kbsync.config.reader import load
from kbsync.errors import UsageError
from kbsync.targets.local.config import LocalTargetConfig
from kbsync.targets.services.config import EmbeddingConfig

from .reading import HOME, mirror, problem_lines, problems, read, with_settings


def test_minimal_config_has_every_default(tmp_path: Path) -> None:
    config = read(tmp_path, "mirrors: [{name: handbook, folder: /srv/handbook}]")
    assert config.mirrors == (MirrorConfig(name="handbook", folder=Path("/srv/handbook")),)
    assert (config.state_dir, config.http, config.notify) == (None, None, None)
    assert config.path == tmp_path / "config.yaml"


LOCAL = "{path: kb, max_bytes: 5, embedding: {type: onnx, path: ~/model}, rerank: {type: builtin}}"
RULES = '[{match: "faq/*.csv", zhipu: {}}, {match: "*.md"}]'


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("include", '["**/*.md"]', ("**/*.md",)),
        ("exclude", '["drafts/", "!drafts/keep.md"]', ("drafts/", "!drafts/keep.md")),
        ("settle", "500ms", 0.5),
        ("settle_longest", "2.5s", 2.5),
        ("rescan", "1m", 60.0),
        ("deep_rescan", "2d", 172800.0),
        ("prefix", "guides/", "guides/"),
        ("renames", "keep", "keep"),
        ("names", "plain", "plain"),
        ("observer", "polling", "polling"),
        ("quiet_hours", "Mon-Fri 8:00-18:00, 22:00-06:00", "Mon-Fri 8:00-18:00, 22:00-06:00"),
        ("deletions", "never", DeletionRules(never=True)),
        ("deletions", "{hold_fraction: 1, hold_count: 0, hold_window: 0s}", DeletionRules(1.0, 0, 0.0)),
        ("adopt", "name", "name"),
        ("documents", RULES, (DocumentRule("faq/*.csv", {"zhipu": {}}), DocumentRule("*.md"))),
    ],
)
def test_every_mirror_setting_reaches_the_model(tmp_path: Path, key: str, text: str, value: Any) -> None:
    plain = mirror(tmp_path)
    assert mirror(tmp_path, f"{key}: {text}") == replace(plain, **{key: value}) != plain


def test_mirror_inherits_global_quiet_hours_unless_it_sets_its_own(tmp_path: Path) -> None:
    def hours(more: str) -> str | None:
        body = f"quiet_hours: 22:00-06:00\nmirrors: [{{name: a, folder: {tmp_path}, {more}}}]"
        return read(tmp_path, body).mirrors[0].quiet_hours

    assert hours("") == "22:00-06:00"
    assert hours("quiet_hours: 12:00-13:00") == "12:00-13:00"
    assert [hours(f"quiet_hours: {value}") for value in ("never", "NEVER", "Never")] == [""] * 3


def test_every_other_setting_reaches_the_model(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        f"""
        state_dir: /var/lib/somewhere
        log_level: debug
        http: {{listen: "[::1]:9753"}}
        notify: {{command: [/bin/tell, -v], on: [halted]}}
        mirrors: [{{name: handbook, folder: /srv/handbook, target: {LOCAL}}}]
        """,
    )
    assert (config.state_dir, config.log_level) == (Path("/var/lib/somewhere"), "debug")
    assert config.http == HttpConfig(listen="[::1]:9753")
    assert config.http is not None and (config.http.host, config.http.port) == ("::1", 9753)
    assert config.notify == NotifyConfig(command=("/bin/tell", "-v"), on=("halted",))
    model = EmbeddingConfig("onnx", Path(HOME, "model"))
    target = LocalTargetConfig(path=tmp_path / "kb", max_bytes=5, embedding=model)
    assert config.mirrors[0].target == target


def test_paths_are_relative_to_the_config_and_keep_symlinks(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    text = "mirrors: [{name: a, folder: link}, {name: b, folder: ~/b}, {name: c, folder: ./x/../c}]"
    folders = [mirror_config.folder for mirror_config in read(tmp_path, text).mirrors]
    assert folders == [tmp_path / "link", Path(HOME, "b"), tmp_path / "c"]


def test_unknown_home_directory_is_a_problem(tmp_path: Path) -> None:
    assert "cannot determine the home directory for '~nobody-of-that-name'" in "".join(
        problem_lines(tmp_path, "mirrors: [{name: a, folder: ~nobody-of-that-name/x}]")
    )


def test_target_without_type_is_local(tmp_path: Path) -> None:
    assert mirror(tmp_path, "target: {max_bytes: 7}").target == LocalTargetConfig(max_bytes=7)


def test_all_problems_are_reported_together_with_file_line_key_and_hint(tmp_path: Path) -> None:
    text = """\
        state_dirr: /x
        mirrors:
          - name: handbook
            folder: /srv/handbook
            settle: 2
            include: []
          - name: handbook
            folder: /srv/c
            settle: 2m
            target: {type: milvus, api_key: x}
        """
    assert [(problem.line, problem.key) for problem in problems(tmp_path, text)] == [
        (1, "state_dirr"),
        (5, "mirrors[0].settle"),
        (6, "mirrors[0].include"),
        (7, "mirrors[1].settle_longest"),
        (7, "mirrors[1].name"),
        (10, "mirrors[1].target.type"),
    ]
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    lines = str(caught.value).split("\n")
    assert len(lines) == 6
    assert lines[0] == (
        f"{tmp_path}/config.yaml:1: state_dirr: unknown key; "
        "did you mean state_dir? Allowed: mirrors, state_dir, log_level, quiet_hours, http, notify"
    )
    assert lines[1] == (
        f"{tmp_path}/config.yaml:5: mirrors[0].settle: 2 has no unit; "
        "allowed: a number and a unit, such as 500ms, 2s, 15m, 1h, 1d or 2w"
    )
    assert isinstance(caught.value, UsageError)


@pytest.mark.parametrize(
    "text",
    [
        "target: {embedding: {type: openai, base_url: x, api_key: y, model: z}}",
        "settle: 2\nsettle_longest: 1s",
    ],
)
def test_refused_value_causes_no_follow_up_problem(tmp_path: Path, text: str) -> None:
    assert len(problem_lines(tmp_path, with_settings(text))) == 1


def test_cross_setting_findings_are_reported_with_other_problems(tmp_path: Path) -> None:
    keys = [problem.key for problem in problems(tmp_path, with_settings("settle: 2m\nbogus: 1\nrescan: 5"))]
    assert keys == ["mirrors[0].settle_longest", "mirrors[0].bogus", "mirrors[0].rescan"]


def test_unreadable_config_is_one_problem(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.yaml", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(ConfigError, match=reason) as caught:
            load(path, {})
        assert [(problem.file, problem.line) for problem in caught.value.problems] == [(path, None)]


def test_relative_config_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(tmp_path, "mirrors: [{name: a, folder: docs}]")
    monkeypatch.chdir(tmp_path)
    config = load(Path("config.yaml"), {})
    assert (config.path, config.mirrors[0].folder) == (tmp_path / "config.yaml", tmp_path / "docs")
