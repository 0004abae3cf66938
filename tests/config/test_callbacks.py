"""Where services call back: an address for each mirror that nobody guesses, in a config that can work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.config.model import MirrorConfig
from kbsync.config.secrets import Secret
from kbsync.config.target import callback_secrets, callback_url
from kbsync.targets.zhipu.config import ZhipuTargetConfig
from tests.config.reading import told

CALLED_KEY = "0123456789abcdef.s3cr3t-of-the-tests"
CALLED = ZhipuTargetConfig(
    api_key=Secret(CALLED_KEY), knowledge_id="1734786402936664064", callback_base="https://kb.example/in"
)
MIRROR_OF_IT = MirrorConfig("handbook", Path("/srv/handbook"), target=CALLED)


def secret(mirror: MirrorConfig) -> str:
    url = callback_url(mirror)
    assert url is not None and url.startswith("https://kb.example/in/callback/")
    return url.rpartition("/")[2]


def test_the_secret_is_the_same_after_a_restart_and_long_enough() -> None:
    assert secret(MIRROR_OF_IT) == secret(replace(MIRROR_OF_IT, prefix="x/")) == secret(replace(MIRROR_OF_IT))
    assert len(secret(MIRROR_OF_IT)) == 40


@pytest.mark.parametrize(
    "other",
    [
        replace(MIRROR_OF_IT, name="faq"),
        replace(MIRROR_OF_IT, target=replace(CALLED, api_key=Secret("x.y"))),
        replace(MIRROR_OF_IT, target=replace(CALLED, knowledge_id="17")),
    ],
)
def test_each_mirror_base_and_key_has_its_own(other: MirrorConfig) -> None:
    assert secret(other) != secret(MIRROR_OF_IT)


def test_the_listener_knows_the_secrets_of_those_that_are_called() -> None:
    silent = replace(MIRROR_OF_IT, name="silent", target=replace(CALLED, callback_base=None))
    known = callback_secrets([MIRROR_OF_IT, silent, MirrorConfig("local", Path("/srv/local"))])
    assert {name: one.reveal() for name, one in known.items()} == {"handbook": secret(MIRROR_OF_IT)}
    assert secret(MIRROR_OF_IT) not in str(known)
    assert callback_url(silent) is None


def test_the_key_is_not_in_it() -> None:
    assert not any(part in secret(MIRROR_OF_IT) for part in CALLED_KEY.split("."))


def findings(place: Path, base: str, http: str = "http: {listen: 127.0.0.1:9753}") -> list[str]:
    text = f"""\
        {http}
        mirrors:
          - name: handbook
            folder: /srv/handbook
            target: {{type: zhipu, api_key: a.b, knowledge_id: "1", callback_base: {base}}}
        """
    return told(place, text)


@pytest.mark.parametrize(
    "base", ["https://kb.example", "https://kb.example:8443/in/", "http://127.0.0.1:9753"]
)
def test_an_address_from_outside_is_taken(tmp_path: Path, base: str) -> None:
    assert findings(tmp_path, base) == []


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("http://kb.example", "is not https, so the secret in its path would travel in the clear"),
        ("https://user:x@kb.example", "has a user or password in it"),
        ("https://kb.example/?a=b", "has a ? or # in it"),
        ("kb.example", "allowed: an address"),
    ],
)
def test_an_address_that_cannot_be_used_is_told(tmp_path: Path, base: str, words: str) -> None:
    [found] = findings(tmp_path, f'"{base}"')
    assert "mirrors[0].target.callback_base" in found
    assert words in found


def test_without_a_listener_nobody_could_answer(tmp_path: Path) -> None:
    [found] = findings(tmp_path, "https://kb.example", http="")
    assert "callback_base: needs a listener" in found
