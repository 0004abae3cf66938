from __future__ import annotations

from pathlib import Path

import pytest

from .reading import problem_lines, problems, read, with_settings

BOMB = b"a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (level, level, b", ".join([b"*a%d" % (level - 1)] * 9)) for level in range(1, 12)
)


@pytest.mark.parametrize(
    ("content", "line", "sentence"),
    [
        (b"", None, "is empty; begin with `mirrors:`"),
        (b"# only a comment\n", None, "is empty; begin with `mirrors:`"),
        (b"---\n# only a comment\n", None, "is empty; begin with `mirrors:`"),
        (b"- a\n- b\n", 1, "is not a block of keys; begin with `mirrors:`"),
        (b"mirrors\n", 1, "is not a block of keys"),
        (b"~\n", 1, "has no value"),
        (b"mirrors:\n\t- name: a\n", 2, "there is a tab here; indent YAML with spaces only"),
        (b"a: 1\nmirrors: \0\n", 2, "contains the character U+0000"),
        (b"mirrors:\n  - name: caf\xe9\n", 2, "is not UTF-8"),
        ("mirrors: []".encode("utf-16"), 1, "is not UTF-8"),
        (b"a: 1\nmirrors: [\n- a: b\n", 3, "a `]`, a `}` or a comma is missing"),
        (b"a: 1\nb: {c: d, api_key: ${NOPE}}\n", 2, 'put "${NOPE}" in quotes'),
        (b"a: [x/${NOPE}]\n", 1, 'put "${NOPE}" in quotes'),
        (b'mirrors: "abc\n\n\n', 1, "a quote is not closed"),
        (b'a: b\nc: "d\n---\n', 2, "a quote is not closed"),
        (b"a:\n- b: c\n  d:~/e\n  f: 2s\n", 3, "a `: ` with its space is missing after a key"),
        (b"a:~/c\n\n\n", 1, "is not a block of keys"),
        (b"a:~/c\nb: 2s\n", 2, "is a `: ` with its space missing in the line above"),
        (b'a: b\nc: "\\#*"\n', 2, "`\\` is special in double quotes; use single quotes"),
        (b'a: b\nc: "C:\\Users"\n', 2, "`\\` is special in double quotes; use single quotes"),
        (b"a:\n  - name: a: b\n", 2, "`: ` is not allowed here"),
        (b"a:\n  - name: a\n   folder: b\n", 3, "check the indentation"),
        (b"a: 1\n---\na: 2\n", 2, "contains a second document"),
        (b"a: 1\nb: @x\n", 2, "text can't begin with this character; put quotes around the text"),
        (b"a:\n- b\n- *.md\n", 3, "put quotes around a pattern"),
        (b"a:\n- b\n- **/*.md\n", 3, "put quotes around a pattern"),
        (b"a: [*md]\n", 1, "put quotes around a pattern"),
        (
            b'a:\n  b: ["*.md", !keep.md]\n  c: d\n',
            2,
            "`!` and `#` are special in YAML; put quotes around a pattern",
        ),
        (b"a: [!keep/*.md]\n", 1, "`!` and `#` are special in YAML"),
        (b"a: [#x, y]\nb: c\n", 1, "`!` and `#` are special in YAML"),
        (b'a: ["b !c]", "d" # e [f]\nb: c\n', 2, "a `]`, a `}` or a comma is missing"),
        (b'a: "\\UFFFFFFFF"\n', None, "contains an escape"),
        (b"[" * 600, None, "is nested too deeply"),
        (b"- " * 600, None, "is nested too deeply"),
        (b"a: &a [*a]\n", 1, "an alias (`*`) inside its own anchor"),
        (b"a: &a {<<: *a, b: 1}\n", 1, "`<<` merges too much"),
        (BOMB, 1, "contains too many values for a config (maximum: 20000"),
        (b"#" * 300_000, None, "is too large for a config (maximum: 262144 bytes)"),
    ],
)
def test_invalid_yaml_is_reported_in_one_plain_sentence(
    tmp_path: Path, content: bytes, line: int | None, sentence: str
) -> None:
    [problem] = problems(tmp_path, content)
    assert problem.line == line
    assert sentence in problem.message
    assert problem.file == tmp_path / "config.yaml"


def test_byte_order_mark_and_crlf_are_accepted(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbfmirrors:\r\n  - name: a\r\n    folder: /srv/a\r\n"
    assert read(tmp_path, content).mirrors[0].folder == Path("/srv/a")


def test_duplicate_key_is_reported_with_both_lines(tmp_path: Path) -> None:
    assert problem_lines(tmp_path, with_settings("settle: 1s\nrescan: 1m\nsettle: 2s")) == [
        "6 mirrors[0].settle: is set twice, first on line 4; keep only one of them"
    ]


def test_yaml_1_1_booleans_and_dates_are_strings(tmp_path: Path) -> None:
    text = "mirrors: [{name: no, folder: /srv/on, prefix: 2024-01-01}]\n"
    config = read(tmp_path, f"{text}notify: {{command: [on, yes], on: [halted]}}")
    assert (config.mirrors[0].name, config.mirrors[0].prefix) == ("no", "2024-01-01")
    assert config.notify is not None
    assert (config.notify.command, config.notify.on) == (("on", "yes"), ("halted",))


def test_mirrors_can_share_settings_by_merge(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        """
        mirrors:
          - &first {name: a, folder: /srv/a, settle: 5s, exclude: &out ["drafts/"]}
          - {<<: *first, name: b, folder: /srv/b}
          - {<<: [{settle: 7s}, *first], name: c, folder: /srv/c, exclude: *out}
        """,
    )
    assert [(mirror.name, mirror.settle) for mirror in config.mirrors] == [("a", 5.0), ("b", 5.0), ("c", 7.0)]
    assert {mirror.exclude for mirror in config.mirrors} == {("drafts/",)}


def test_invalid_merged_setting_is_reported_at_its_own_line(tmp_path: Path) -> None:
    text = "mirrors:\n- &m {name: a, folder: /srv/a, settle: 5}\n- {<<: *m, name: b}\n"
    assert [(problem.line, problem.key) for problem in problems(tmp_path, text)] == [
        (2, "mirrors[0].settle"),
        (2, "mirrors[1].settle"),
    ]


def test_messages_cannot_control_a_terminal(tmp_path: Path) -> None:
    text = '"a\\x1b[31m\\nb": 1\n"' + "k" * 500 + '": 2\nmirrors: [{name: "\\x1b]0;x", folder: /srv/a}]\n'
    for problem in problems(tmp_path, text):
        assert str(problem).isprintable()
        assert len(problem.key) <= 60
