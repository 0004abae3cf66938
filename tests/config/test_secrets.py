from __future__ import annotations

import copy
import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.config.model import Config, Needs
from kbsync.config.problems import ConfigError
from kbsync.config.reader import load, with_secrets_of
from kbsync.config.secrets import Secret
from kbsync.errors import UsageError

from .reading import problem_lines, problems, read

HEAD = "mirrors: [{name: a, folder: /srv/a}]\n"
URL = "https://hooks.example/T0KEN"


def url(folder: Path, notify: str, **environ: str) -> str:
    """Return what `notify.url` reveals."""
    config = read(folder, f"{HEAD}notify: {{{notify}}}\n", **environ)
    assert config.notify is not None
    assert config.notify.url is not None
    return config.notify.url.reveal()


def test_secret_is_hidden_from_everything_but_reveal(tmp_path: Path) -> None:
    secret = Secret("T0KEN")
    assert secret.reveal() == "T0KEN"
    assert {repr(secret), str(secret), f"{secret:>20}", "%s" % secret} == {"***"}  # noqa: UP031
    assert repr([secret]) == repr(copy.deepcopy([secret])) == "[***]"
    config = read(tmp_path, f"{HEAD}notify: {{url: {URL!r}}}\n")
    assert "T0KEN" not in repr(config)
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_references_are_expanded_from_the_environment(tmp_path: Path) -> None:
    assert url(tmp_path, "url: 'https://h/${ID}/${TOKEN}?x'", ID="7", TOKEN="T0KEN") == "https://h/7/T0KEN?x"
    config = read(tmp_path, "mirrors: [{name: '${N}', folder: '${D}/docs'}]", N="b", D="/srv")
    assert (config.mirrors[0].name, config.mirrors[0].folder) == ("b", Path("/srv/docs"))
    assert url(tmp_path, "url: 'https://h/${A}'", A="${B}") == "https://h/${B}"  # resolved once
    escaped = read(tmp_path, "mirrors: [{name: a, folder: '/srv/$${X}/$HOME/$$'}]")
    assert escaped.mirrors[0].folder == Path("/srv/${X}/$HOME/$$")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("${KBSYNC_NOT_SET}", "${KBSYNC_NOT_SET} is not set in the environment; set it"),
        ("${A", "'${A' is not a valid reference; allowed: ${NAME}"),
        ("${A:-x}", "'${A:-x}' is not a valid reference"),
        ("${}", "'${}' is not a valid reference"),
    ],
)
def test_unresolvable_reference_is_reported(tmp_path: Path, text: str, sentence: str) -> None:
    [problem] = problem_lines(tmp_path, f"{HEAD}notify: {{url: '{text}'}}\n")
    assert problem.startswith(f"2 notify.url: {sentence}")


@pytest.mark.parametrize(
    ("http", "why"),
    [
        ("token: '${TOKEN}'", "http.token: ${TOKEN} is not set in the environment"),
        ("token_file: '${CREDENTIALS_DIRECTORY}/t'", "http.token_file: ${CREDENTIALS_DIRECTORY} is not set"),
        ("token_file: /nowhere/t", "http.token_file: /nowhere/t cannot be read"),
    ],
)
def test_commands_without_secrets_read_the_config_and_others_get_the_reason(
    tmp_path: Path, http: str, why: str
) -> None:
    text = f"{HEAD}http: {{listen: '127.0.0.1:80', {http}}}\n"
    assert len(problems(tmp_path, text)) == 1
    config = load(tmp_path / "config.yaml", {}, Needs(secrets=False))
    assert config.http is not None
    assert config.http.token is not None
    with pytest.raises(UsageError, match=re.escape(why)):
        config.http.token.reveal()


def test_missing_reference_outside_secrets_is_an_error(tmp_path: Path) -> None:
    assert problems(tmp_path, "mirrors: [{name: a, folder: '${NOWHERE_SET}'}]")
    with pytest.raises(ConfigError):
        load(tmp_path / "config.yaml", {}, Needs(secrets=False))


def test_no_message_repeats_environment_values(tmp_path: Path) -> None:
    text = """\
        mirrors:
          - name: "${KEY}"
            folder: /srv/a
            settle: ${KEY}
            observer: ${KEY}
            include: ["${KEY}"]
            deletions: {hold_count: "${KEY}"}
            target: {type: "${KEY}"}
        notify: {url: "${KEY}", on: ["${KEY}"]}
        http: {listen: "${KEY}"}
        """
    errors = problems(tmp_path, text, KEY="!")
    assert len(errors) == 9
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, KEY="T0KEN-OF-OURS[")
    assert "T0KEN" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("notify", "words"),
    [
        ("'ftp://u:T0KEN@h'", "allowed: a block of keys"),
        ("{url: 'ftp://T0KEN'}", "the value is not valid"),
        ("{url: {a: T0KEN}}", "notify.url: "),
        ("{url_fil: T0KEN, url: 5}", "notify.url_fil: unknown key"),
        ("{url_file: '${KEY}'}", "notify.url_file: the file that ${…} names cannot be read"),
    ],
)
def test_misplaced_secret_is_not_repeated(tmp_path: Path, notify: str, words: str) -> None:
    errors = "".join(problem_lines(tmp_path, f"{HEAD}notify: {notify}\n", KEY="T0KEN"))
    assert words in errors
    assert "T0KEN" not in errors


def test_secret_file_is_read_without_its_last_newline(tmp_path: Path) -> None:
    for content in (URL, f"{URL}\n", f"{URL}\r\n"):
        (tmp_path / "secret").write_text(content, newline="")
        assert url(tmp_path, "url_file: secret") == URL
        assert url(tmp_path, "url_file: '${DIR}/secret'", DIR=str(tmp_path)) == URL


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read (no such file or directory); check the path and its read permissions"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff", "is not text"),
        (b"x" * 70_000, "is too large for a secret (maximum: 65536 bytes)"),
        (b"T0KEN", "2 notify.url_file: the value is not valid; allowed: a URL that begins with https://"),
        (b"T0\nKEN\n", "2 notify.url_file: the value contains a line break; allowed: a URL"),
        (b"\xef\xbb\xbfT0KEN", "2 notify.url_file: the value begins with a byte order mark; allowed: a URL"),
    ],
)
def test_unusable_secret_file_is_reported(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    [problem] = problem_lines(tmp_path, f"{HEAD}notify: {{url_file: secret}}\n")
    assert problem.removeprefix(f"2 notify.url_file: {tmp_path}/secret ").startswith(sentence)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("", "is empty"),
        ("T0KEN\n", "contains a line break"),
        ("T0KEN\r", "contains a line break"),
        ("\ufeffT0KEN", "begins with a byte order mark"),
        ("T0 KEN", "is not valid"),
    ],
)
def test_unusable_secret_variable_is_reported_with_its_fault(tmp_path: Path, value: str, fault: str) -> None:
    target = "{type: zhipu, api_key: '${KEY}', knowledge_id: '17'}"
    config = f"mirrors: [{{name: a, folder: /srv/a, target: {target}}}]\n"
    lines = problem_lines(tmp_path, config, KEY=value)
    assert [line.partition(": ")[2] for line in lines] == [
        f"the value {fault}; allowed: the key alone, without `Bearer` or spaces"
    ]


def test_unusable_secret_file_is_not_also_reported_as_missing(tmp_path: Path) -> None:
    [problem] = problem_lines(tmp_path, f"{HEAD}http: {{listen: '0.0.0.0:80', token_file: /nowhere/t}}\n")
    assert "http.token_file: /nowhere/t cannot be read" in problem
    target = "{type: zhipu, api_key_file: /nowhere/k, knowledge_id: '17'}"
    [problem] = problem_lines(tmp_path, f"mirrors: [{{name: a, folder: /srv/a, target: {target}}}]\n")
    assert "api_key_file: /nowhere/k cannot be read" in problem


def test_other_missing_target_settings_are_reported_at_the_same_time(tmp_path: Path) -> None:
    target = "{type: gptbots, api_key: '${NOT_SET}', concurrency: 99}"
    text = f"mirrors: [{{name: a, folder: /srv/a, target: {target}}}]\n"
    assert [problem.key.rpartition(".")[2] for problem in problems(tmp_path, text)] == [
        "api_key",
        "concurrency",
        "knowledge_base_id",
    ]


def test_secret_given_twice_is_reported(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(URL)
    [problem] = problem_lines(tmp_path, f"{HEAD}notify: {{url: {URL!r}, url_file: secret}}\n")
    assert problem == "2 notify.url_file: conflicts with url; keep only one of them"


def test_special_file_as_secret_is_reported_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "secret")
    for path in ("secret", "/dev/zero"):
        [problem] = problem_lines(tmp_path, f"{HEAD}notify: {{url_file: {path}}}\n")
        assert "is not a file" in problem


# ---- new secrets are used, without other changes


TWO_MIRRORS = """\
mirrors:
  - name: one
    folder: one
    target: {type: zhipu, knowledge_id: "1", api_key_file: key}
  - name: two
    folder: two
    target: {type: zhipu, knowledge_id: "2", api_key_file: key}
"""


def with_key(folder: Path, key: str, text: str = TWO_MIRRORS) -> Config:
    (folder / "key").write_text(key)
    (folder / "config.yaml").write_text(text)
    return load(folder / "config.yaml", {})


OTHER_BASE = TWO_MIRRORS.replace('id: "1"', 'id: "3"')
OTHER_NAME = TWO_MIRRORS.replace("name: one", "name: x")


@pytest.mark.parametrize(
    ("text", "named", "reloaded"),
    [
        (TWO_MIRRORS, ["two"], [1]),
        (f"log_level: error\n{TWO_MIRRORS}", ["one", "two"], [0, 1]),  # and nothing else of the new config
        (OTHER_BASE, ["one"], []),  # a mirror with other changes too
        (OTHER_NAME, ["one"], []),
    ],
)
def test_only_the_named_secrets_are_reloaded(
    tmp_path: Path, text: str, named: list[str], reloaded: list[int]
) -> None:
    before, fresh = with_key(tmp_path, "kid.before"), with_key(tmp_path, "kid.after", text)
    assert with_secrets_of(before, before, named) == before
    mirrors = [fresh.mirrors[n] if n in reloaded else old for n, old in enumerate(before.mirrors)]
    assert with_secrets_of(before, fresh, named) == replace(before, mirrors=tuple(mirrors))
