"""Tests the settings of targets on services, their callback URLs, and how a target is opened."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.config.model import MirrorConfig
from kbsync.config.secrets import Secret
from kbsync.config.target import VectorizationConfig, callback_secrets, callback_url, is_in_the_clear
from kbsync.contract.target import TargetContext
from kbsync.once import settings_of
from kbsync.targets.gptbots.config import RANKING_MODELS, GptbotsSearchConfig, GptbotsTargetConfig
from kbsync.targets.gptbots.target import RANKING
from kbsync.targets.registry import TARGETS, WITH_DOCUMENT_SETTINGS
from kbsync.targets.zhipu.config import SLICES, ZhipuSearchConfig, ZhipuTargetConfig
from kbsync.targets.zhipu.target import ZhipuTarget

from .reading import mirror, problem_lines, problems, read, with_settings

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
KEY = "1a2b.T0KEN"
LEAST = f'type: zhipu, api_key: {KEY}, knowledge_id: "1734786402936664064"'


def zhipu(folder: Path, settings: str = "", **environ: str) -> ZhipuTargetConfig:
    """Return the target of a mirror with `settings` in addition to the required ones."""
    target = mirror(folder, f"target: {{{LEAST}{settings and ', '}{settings}}}", **environ).target
    assert isinstance(target, ZhipuTargetConfig)
    return target


def test_key_and_base_are_sufficient(tmp_path: Path) -> None:
    plain = zhipu(tmp_path)
    assert plain == ZhipuTargetConfig(api_key=Secret(KEY), knowledge_id="1734786402936664064")
    assert (plain.base_url, plain.auth) == ("https://open.bigmodel.cn/api", "key")
    assert (plain.concurrency, plain.requests_per_minute, plain.upload_bytes_per_second) == (4, 0, 0)
    assert plain.vectorization == VectorizationConfig(1.0, 15.0, 1800.0, 3, 15.0)
    assert (plain.ca_file, plain.proxy, plain.max_bytes) == (None, None, 100_000_000)


def test_all_target_settings_are_parsed(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    text = (
        "base_url: http://10.0.0.7:8080/api/, concurrency: 64, requests_per_minute: 120, "
        "upload_bytes_per_second: 1000000, max_bytes: 5, ca_file: ca.pem, proxy: 'http://u:${PW}@proxy:3128',"
        " vectorization: {poll_first: 50ms, poll_longest: 1s, give_up: 2m, "
        "reembed_tries: 0, absent_after: 0s}, auth: jwt, search: {recall_method: mixed, recall_ratio: 1, "
        "top_n: 20, rerank_model: rerank-pro, fractional_threshold: 0.25}"
    )
    assert zhipu(tmp_path, text, PW="hush") == ZhipuTargetConfig(
        base_url="http://10.0.0.7:8080/api",
        api_key=Secret(KEY),
        knowledge_id="1734786402936664064",
        concurrency=64,
        requests_per_minute=120,
        upload_bytes_per_second=1_000_000,
        vectorization=VectorizationConfig(0.05, 1.0, 120.0, 0, 0.0),
        ca_file=tmp_path / "ca.pem",
        proxy=Secret("http://u:hush@proxy:3128"),
        max_bytes=5,
        auth="jwt",
        search=ZhipuSearchConfig(
            recall_ratio=1, top_n=20, rerank_model="rerank-pro", fractional_threshold=0.25
        ),
    )
    text_of_config = repr(zhipu(tmp_path, text, PW="hush"))
    assert "T0KEN" not in text_of_config and "hush" not in text_of_config


def test_target_example_is_valid_and_shows_the_defaults(tmp_path: Path) -> None:
    block = EXAMPLE.read_text().partition("# A knowledge base on Zhipu")[2].partition("\n\n")[0]
    uncommented = "\n".join(re.sub(r"^(  )# ?", r"\1", line) for line in block.splitlines()[1:])
    config = read(tmp_path, f"mirrors:\n{uncommented}\n", ZHIPU_API_KEY=KEY)
    assert config.mirrors[0].target == zhipu(tmp_path)
    optional = uncommented.replace("# ca_file", "ca_file").replace("# proxy:", "proxy:")
    assert "ca_file" in "".join(problem_lines(tmp_path, f"mirrors:\n{optional}\n", ZHIPU_API_KEY=KEY))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://open.bigmodel.cn/api", "https://open.bigmodel.cn/api"),
        ("HTTPS://Open.BigModel.CN:443/api//", "https://open.bigmodel.cn/api"),
        ("https://api.z.ai", "https://api.z.ai"),
        ("https://gateway.example:8443/Zhipu/api/", "https://gateway.example:8443/Zhipu/api"),
        ("http://[::1]:8080/api", "http://[::1]:8080/api"),
        ("http://localhost:80", "http://localhost"),
    ],
)
def test_addresses_are_normalized(tmp_path: Path, text: str, address: str) -> None:
    target = zhipu(tmp_path, f'base_url: "{text}"')
    assert target.base_url == address
    direct = ZhipuTargetConfig(base_url=text, api_key=Secret("k"), knowledge_id=target.knowledge_id)
    assert direct.base_key("a") == target.base_key("b") == ("zhipu", address, target.knowledge_id)


FAR = (
    "open.bigmodel.cn 8.8.8.8 [2001:4860:4860::8888] 172.32.0.1 localhost.evil.example 10.0.0.1.evil.example"
)
NEAR = "localhost 127.0.0.2 [::1] 10.1.2.3 192.168.1.1 172.16.0.1 100.64.0.1 [fd00::1] gateway gateway.lan"


@pytest.mark.parametrize(("hosts", "clear"), [(FAR, True), (NEAR, False)])
def test_key_is_never_sent_unencrypted(tmp_path: Path, hosts: str, clear: bool) -> None:
    for host in hosts.split():
        assert is_in_the_clear(f"http://{host}:8080/api") is clear
        assert not is_in_the_clear(f"https://{host}/api")
        errors = problem_lines(tmp_path, with_settings(f'target: {{{LEAST}, base_url: "http://{host}/api"}}'))
        assert len(errors) == clear
        assert all("API key would be sent unencrypted; use https://" in error for error in errors)


@pytest.mark.parametrize(("prefix", "good"), [("x" * 90, True), ("x" * 150, False), ("手" * 60, False)])
def test_prefix_leaves_room_for_paths(tmp_path: Path, prefix: str, good: bool) -> None:
    errors = problems(tmp_path, with_settings(f"prefix: {prefix}\ntarget: {{{LEAST}}}"))
    assert [error.key for error in errors] == ([] if good else ["mirrors[0].prefix"])
    assert problems(tmp_path, with_settings(f"prefix: {prefix}")) == []


@pytest.mark.parametrize("match", ["*", "faq/", "v1.2", "docs/site.old", "*.[ct]sv", "*.md*", "csv", ".csv"])
def test_pattern_that_may_match_other_files_is_valid_for_every_type(tmp_path: Path, match: str) -> None:
    for number in SLICES:
        text = f'documents: [{{match: "{match}", zhipu: {{knowledge_type: {number}}}}}]'
        assert problem_lines(tmp_path, with_settings(text)) == []


def test_planning_uses_name_style_and_timeouts_of_the_config(tmp_path: Path) -> None:
    remote = mirror(tmp_path, f"names: plain\ntarget: {{{LEAST}, vectorization: {{absent_after: 40s}}}}")
    local = mirror(tmp_path)
    assert (settings_of(remote).names, settings_of(remote).absent_after) == ("plain", 40.0)
    assert (settings_of(local).names, settings_of(local).absent_after) == ("tagged", 15.0)


GPTBOTS = 'type: gptbots, api_key: secret, knowledge_base_id: "67457fea6f658672d6482542"'


def test_on_demand_ranking_model_is_one_of_the_valid_names() -> None:
    assert RANKING in RANKING_MODELS


def test_search_and_ask_settings_are_parsed(tmp_path: Path) -> None:
    settings = "search: {embedding_rate: 1, doc_correlation: 0.1, rerank_version: BCE-Rerank}"
    for more, search in (
        ("", GptbotsSearchConfig(None, None, None)),
        (f", {settings}", GptbotsSearchConfig(1.0, 0.1, "BCE-Rerank")),
    ):
        target = mirror(tmp_path, f"target: {{{GPTBOTS}{more}}}").target
        assert isinstance(target, GptbotsTargetConfig)
        assert target.search == search


CALLING_KEY = "0123456789abcdef.s3cr3t-of-the-tests"
TARGET = ZhipuTargetConfig(
    api_key=Secret(CALLING_KEY), knowledge_id="1734786402936664064", callback_base="https://kb.example/in"
)
MIRROR = MirrorConfig("handbook", Path("/srv/handbook"), target=TARGET)


def secret(mirror: MirrorConfig) -> str:
    url = callback_url(mirror)
    assert url is not None and url.startswith("https://kb.example/in/callback/")
    return url.rpartition("/")[2]


def test_derived_secret_is_stable_across_restarts_and_long_enough() -> None:
    assert secret(MIRROR) == secret(replace(MIRROR, prefix="x/")) == secret(replace(MIRROR))
    assert len(secret(MIRROR)) == 40
    assert not any(part in secret(MIRROR) for part in CALLING_KEY.split("."))


@pytest.mark.parametrize(
    "other",
    [
        replace(MIRROR, name="faq"),
        replace(MIRROR, target=replace(TARGET, api_key=Secret("x.y"))),
        replace(MIRROR, target=replace(TARGET, knowledge_id="17")),
    ],
)
def test_each_mirror_base_and_key_has_its_own_secret(other: MirrorConfig) -> None:
    assert secret(other) != secret(MIRROR)


def test_listener_knows_the_secrets_of_called_mirrors() -> None:
    silent = replace(MIRROR, name="silent", target=replace(TARGET, callback_base=None))
    secrets = callback_secrets([MIRROR, silent, MirrorConfig("local", Path("/srv/local"))])
    assert {name: value.reveal() for name, value in secrets.items()} == {"handbook": secret(MIRROR)}
    assert secret(MIRROR) not in str(secrets)
    assert callback_url(silent) is None


LISTENER = "http: {listen: 127.0.0.1:9753}"


@pytest.mark.parametrize(
    ("base", "http", "words"),
    [
        ("https://kb.example", LISTENER, ""),
        ("https://kb.example:8443/in/", LISTENER, ""),
        ("http://127.0.0.1:9753", LISTENER, ""),
        ("https://kb.example", "", "callback_base: needs a listener"),
        (
            "http://kb.example",
            LISTENER,
            "does not use https, so the secret in its path would be sent unencrypted",
        ),
        ("https://user:x@kb.example", LISTENER, "contains a username or password"),
        ("https://kb.example/?a=b", LISTENER, "has a ? or #"),
        ("kb.example", LISTENER, "allowed: a URL"),
    ],
)
def test_callback_address_is_accepted_or_refused_with_a_reason(
    tmp_path: Path, base: str, http: str, words: str
) -> None:
    target = f'{{type: zhipu, api_key: a.b, knowledge_id: "1", callback_base: "{base}"}}'
    errors = problem_lines(
        tmp_path, f"{http}\nmirrors: [{{name: handbook, folder: /srv/handbook, target: {target}}}]\n"
    )
    assert len(errors) == bool(words)
    assert all("mirrors[0].target.callback_base" in error and words in error for error in errors)


async def test_mirrors_of_one_account_share_whether_it_is_down(tmp_path: Path) -> None:
    here, targets = "base_url: http://127.0.0.1", []
    for text in (f"{here}:9/api", f"{here}:9/api/", f"{here}:8/api"):
        target = zhipu(tmp_path, text).open(TargetContext("docs", tmp_path / "state", tmp_path / "spool"))
        assert isinstance(target, ZhipuTarget)
        targets.append(target)
    first, same, other = (target._client.breaker for target in targets)
    assert first is same and first is not other
    for target in targets:
        await target.aclose()


def test_types_with_document_settings_are_those_of_the_registry() -> None:
    matching = [name for name, block in TARGETS.items() if block.document_settings]
    assert matching == list(WITH_DOCUMENT_SETTINGS)
