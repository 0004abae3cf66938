"""Tests that every wrong setting is one problem that names key and allowed values, but repeats no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbsync.targets.registry import ROWS

from .reading import problem_lines, with_settings

MIRROR: list[tuple[str, str]] = [
    ("setle: 2s", "setle: unknown key; did you mean settle? Allowed: name, folder, include,"),
    ("zzz: 2s", "zzz: unknown key; allowed: name, folder, include,"),
    ("Deep-Rescan: 2h", "unknown key; did you mean deep_rescan?"),
    ("hold_count: 5", "unknown key; hold_count belongs in mirrors[].deletions; allowed here: name, folder,"),
    ("listen: x", "unknown key; listen belongs in http; "),
    ("settle: 2", "settle: 2 has no unit; allowed: a number and a unit"),
    ("settle: 99ms", "settle: '99ms' is out of range; allowed: 100ms to 1d"),
    ("rescan: 0s", "rescan: '0s' is out of range; allowed: 1s to 30d"),
    ("observer: autos", "'autos' is not valid; did you mean auto? Allowed: auto, native, polling"),
    (
        "quiet_hours: at night",
        "quiet_hours: 'at night' is not a time of day such as 22:00-06:00; allowed: never",
    ),
    ("quiet_hours: Mo-Fr 8:00-18:00", "'Mo-Fr 8:00-18:00' is not a time of day"),
    ("quiet_hours: NEVERMORE", "'NEVERMORE' is not a time of day"),
    ('quiet_hours: "22:00-22:00"', "'22:00-22:00' begins and ends at the same time"),
    ("quiet_hours: 22", "quiet_hours: 22 is not a time of day"),
    ("deletions: {hold_count: true}", "deletions.hold_count: true is not valid; allowed: a whole number"),
    ('deletions: {hold_count: "5"}', "deletions.hold_count: '5' is not valid; allowed: a whole number"),
    ("deletions: {hold_fraction: 1.1}", "deletions.hold_fraction: 1.1 is not valid; allowed: a number"),
    ("deletions: {hold_fraction: .nan}", "deletions.hold_fraction: nan is not valid"),
    ("deletions: 5", "deletions: 5 is not valid; allowed: a block of keys: hold_fraction, hold_count"),
    ("deletions: ever", "hold_count, hold_window; or never"),
    ("deletions: {never: true}", "deletions.never: unknown key; allowed: hold_fraction"),
    ("deletions:", "deletions: "),
    ("deletions: ${NOTHING}", "NOTHING"),
    ("exclude: drafts/", "exclude: text is not valid; allowed: a list"),
    ("exclude: {a: b}", "exclude: a block of keys is not valid; allowed: a list"),
    ("exclude: [5]", "exclude[0]: 5 is not a pattern; allowed: quoted text"),
    ('exclude: ["a", ""]', "exclude[1]: '' matches nothing"),
    ('exclude: ["# note"]', "exclude[0]: '# note' matches nothing; # begins a comment"),
    ('exclude: ["a[z-b]"]', "exclude[0]: 'a[z-b]' matches nothing; allowed: a gitignore pattern"),
    ('exclude: ["./drafts/"]', "exclude[0]: './drafts/' matches nothing; it begins with ./ instead of /"),
    ("include: []", "include: is empty, so nothing would be mirrored"),
    ("include:", "include: has no value; write one or remove the key"),
    ("prefix: ~", "has no value; write one or remove the key, or put `~` in quotes if you mean your home"),
    ("prefix: 5", "prefix: 5 is not text"),
    ('prefix: "a\\nb"', "is not valid; allowed: text on one line"),
    ("target: local", "target: text is not valid; allowed: a block of keys, such as {type: local}"),
    ("target: {type: milvus}", f"this version has no target type 'milvus'; allowed: {', '.join(ROWS)}"),
    ("target: {type: locl}", "; did you mean local?"),
    ("chat_model: glm", "; chat_model belongs in target type zhipu, openai or openwebui"),
    ("target: {max_bytes: 0}", "target.max_bytes: 0 is not valid; allowed: a whole number, at least 1"),
    ("target: {embedding: {type: cohere}}", "'cohere'; allowed: builtin, onnx, openai, jina"),
    ("target: {rerank: {type: cohere}}", "'cohere'; allowed: builtin, openai, jina"),
    ("target: {embedding: {type: openai, model: m}}", "target.embedding.base_url: is missing"),
    ("target: {embedding: {type: openai, base_url: 'http://h'}}", "target.embedding.model: is missing"),
    ("target: {embedding: {model: m}}", "target.embedding.model: doesn't apply to type builtin"),
    ("target: {embedding: {proxy: 'http://p'}}", "embedding.proxy: doesn't apply to type builtin"),
    ("target: {rerank: {ca_file: a.pem}}", "target.rerank.ca_file: doesn't apply to type builtin"),
    (
        "target: {rerank: {type: jina, base_url: 'https://h', model: m, ca_file: no-such.pem}}",
        "no-such.pem is not a file; choose a file of certificates",
    ),
    (
        "target: {embedding: {type: tei, base_url: 'http://h', proxy: 'socks5://p'}}",
        "proxy: the value is not",
    ),
    ("target: {rerank: {type: jina, base_url: 'http://h.io', api_key: k, model: m}}", "so the API key would"),
    ("documents: [{zhipu: {}}]", "documents[0].match: is required"),
    ("documents: [5]", "documents[0]: 5 is not valid; allowed: a block of keys: match, zhipu, gptbots"),
    ('documents: [{match: "!a"}]', "documents[0].match: '!a' matches nothing; allowed: a pattern without"),
    ("documents: [{match: a, milvus: {x: 1}}]", "milvus: unknown key; allowed: match, zhipu, gptbots"),
    ("documents: [{match: a, local: {}}]", "local: unknown key; allowed: match, zhipu, gptbots"),
    ("documents: [{match: a, zhipu: 5}]", "documents[0].zhipu: 5 is not valid; allowed: a block of keys"),
    ("documents: [{match: a, zhipu: {x: 1}}]", "zhipu.x: unknown key; allowed: knowledge_type,"),
    ("exclude:\n- !drafts", "5 mirrors[0].exclude[0]: has the unknown tag '!drafts'"),
    ("prefix: !!binary abc", "4 mirrors[0].prefix: has the unknown tag"),
    ("target: !!python/object:os.system {}", "4 mirrors[0].target: has the unknown tag"),
    ("deletions: {hold_count: !!int x}", "deletions.hold_count: 'x' is not a valid int"),
    (f"deletions: {{hold_count: {'9' * 5000}}}", "is not a valid int"),
    ('prefix: "\\ud800"', "4 mirrors[0].prefix: contains a character that text cannot contain"),
    ('prefix: "a\\0"', "4 mirrors[0].prefix: contains a character that text cannot contain"),
    ("? [a]\n: b", "4 mirrors[0]: contains a key that is not a plain word"),
    ("<<: 5", "4 mirrors[0].<<: can merge only blocks of keys"),
    (
        "target: {type: zhipu, knowledge_id: '5'}",
        "key of the account; or api_key_file, a file that contains it",
    ),
    ("target: {type: zhipu, api_key: k}", "knowledge_id: is required: the id of the knowledge base"),
    ("target: {type: zhipu, api_key: k, knowledge_id: 17}", "17 is not valid; allowed: an id in quotes"),
    ("target: {type: zhipu, api_key: k, knowledge_id: ''}", "'' is not valid; allowed: an id in quotes"),
    ("target: {type: zhipu, api_key: Bearer k.T0KEN, knowledge_id: '5'}", "api_key: the value is not valid"),
    ("target: {type: zhipu, api_key: ключ, knowledge_id: '5'}", "api_key: the value is not valid"),
    ("target: {type: zhipu, api_key: T0KEN, auth: jwt, knowledge_id: '5'}", "id.secret"),
    ("target: {knowledge_id: '5'}", "; knowledge_id belongs in target type zhipu"),
]
"""Settings of a mirror, which begin in line 4."""

BESIDE: list[tuple[str, str]] = [
    ("path: /x", "1 path: unknown key; allowed: mirrors, state_dir, log_level, quiet_hours, http, notify"),
    ("http: {}", "1 http.listen: is required"),
    ("http: {listen: localhost}", "1 http.listen: 'localhost' is not valid; allowed: host:port"),
    ("http: {listen: 127.0.0.1:70000}", "1 http.listen: '127.0.0.1:70000' is not valid"),
    ("http: [a]", "1 http: a list is not valid; allowed: a block of keys: listen"),
    ("notify: {}", "1 notify: has no destination; set command, url or url_file"),
    ("notify: {command: tell me}", "1 notify.command: text is not valid; allowed: a list"),
    ("notify: {command: []}", "1 notify.command: is empty; set a program"),
    (
        "notify: {command: [a], on: [halt]}",
        "1 notify.on[0]: 'halt' is not valid; did you mean halted? Allowed: halted, recovered",
    ),
    ("state_dir: 5", "1 state_dir: 5 is not a path"),
]
"""Settings other than the mirrors."""

WHOLE: list[tuple[str, str]] = [
    ("state_dir: /x", "mirrors: is required"),
    ("mirrors: []", "1 mirrors: is empty; list at least one folder"),
    ("mirrors: {name: a, folder: /x}", "1 mirrors: a block of keys is not valid; allowed: a list"),
    ("mirrors: [7]", "1 mirrors[0]: 7 is not valid; allowed: a block of keys: name, folder"),
    ("mirrors: [{folder: /x}]", "1 mirrors[0].name: is required: unique name"),
    ("mirrors: [{name: x}]", "1 mirrors[0].folder: is required: the folder to mirror"),
    ("mirrors: [{name: -x, folder: /x}]", "1 mirrors[0].name: '-x' is not valid; allowed: lower-case"),
    ("mirrors: [{name: 5, folder: /x}]", "1 mirrors[0].name: 5 is not text"),
    ("mirrors: [{name: a, folder: ''}]", "1 mirrors[0].folder: '' is not a path"),
]
"""Whole configs."""

ZHIPU: list[tuple[str, str]] = [
    ("embedding: {}", "; embedding belongs in target type local or postgres"),
    ("absent_after: 1s", "; absent_after belongs in mirrors[].target.vectorization"),
    ("auth: token", "auth: 'token' is not valid; allowed: key, jwt"),
    ("concurrency: 0", "concurrency: 0 is not valid; allowed: a whole number, 1 to 64"),
    ("proxy: proxy:3128", "proxy: the value is not valid; allowed: a URL such as http://proxy:3128"),
    ("proxy: socks5://proxy:3128", "proxy: the value is not valid"),
    ("ca_file: none.pem", "none.pem is not a file; choose a file of certificates"),
    ("vectorization: {reembed_tries: 11}", "vectorization.reembed_tries: 11 is not valid; allowed:"),
    ("vectorization: {poll_longest: 500ms}", "500ms is shorter than poll_first; allowed: at least 1s"),
    ("vectorization: {poll_first: 1m}", "vectorization.poll_longest: 15s is shorter than poll_first"),
    ("search: {recall_method: fuzzy}", "'fuzzy' is not valid; allowed: embedding, keyword, mixed"),
    ("search: {recall_ratio: 0}", "search.recall_ratio: 0 is not valid; allowed: a whole number, 1 to 99"),
    ("search: {top_n: 101}", "search.top_n: 101 is not valid; allowed: a whole number, 1 to 100"),
    ("search: {rerank_model: best}", "rerank_model: 'best' is not valid; allowed: rerank, rerank-pro"),
    ("search: {fractional_threshold: 0}", "search.fractional_threshold: 0 is not valid; allowed: a number"),
    ("search: {recall_method: keyword, recall_ratio: 50}", "apply to recall_method keyword; remove"),
    ('base_url: "open.bigmodel.cn/api"', "allowed: a URL that begins with https://"),
    ('base_url: "ftp://host/api"', "base_url: the value is not valid"),
    ('base_url: "https://"', "base_url: the value is not valid"),
    ('base_url: "https://host:99999/"', "base_url: the value is not valid"),
    ('base_url: "https://[::1"', "base_url: the value is not valid"),
    ('base_url: "https://ho st/"', "base_url: the value is not valid"),
    ('base_url: "https://host\\\\@evil/"', "base_url: the value is not valid"),
    ('base_url: "https://user:T0KEN@host/api"', "base_url: contains a username or password; remove it"),
    ('base_url: "https://T0KEN@host/api"', "base_url: contains a username or password"),
    ('base_url: "https://host/api?key=T0KEN"', "base_url: has a ? or #; remove it and everything after it"),
    ('base_url: "https://host/api#T0KEN"', "base_url: has a ? or #"),
]
"""Settings of a base at Zhipu."""

GPTBOTS: list[tuple[str, str]] = [
    ("search: {embedding_rate: 1.1}", "search.embedding_rate: 1.1 is not valid; allowed: a number from 0"),
    ("search: {doc_correlation: 0}", "search.doc_correlation: 0 is not valid; allowed: a number from 0.1"),
    ("search: {rerank_version: BGE}", "search.rerank_version: 'BGE' is not valid; allowed: BGE-Rerank,"),
]
"""Settings of a base on GPTBots."""

RULES: list[tuple[str, str, str]] = [
    ("*.md", "knowledge_type: 4", "knowledge_type: 4 is not valid; allowed: 1, 2, 3, 5, 6, 7"),
    ("*.md", "knowledge_type: '1'", "knowledge_type: '1' is not valid"),
    ("*.md", "sentence_size: 300", "sentence_size: applies to knowledge_type 5 only"),
    ("a", "knowledge_type: 1, custom_separator: [x]", "custom_separator: applies to"),
    ("a", "knowledge_type: 5, sentence_size: 19", "sentence_size: 19 is not valid; allowed: a whole"),
    ("a", "knowledge_type: 5, custom_separator: x", "custom_separator: 'x' is not valid; allowed: a list"),
    ("a", "knowledge_type: 5, custom_separator: ['']", "custom_separator: a list is not valid"),
    ("a", "parse_image: 1", "parse_image: 1 is not valid; allowed: true, false"),
    (
        "faq/*.csv",
        "knowledge_type: 2",
        "knowledge_type: 2 does not accept csv files; allowed for these files: 3, 7",
    ),
    (
        "*.md",
        "knowledge_type: 3",
        "knowledge_type: 3 does not accept md files; allowed for these files: 1, 2, 5",
    ),
    ("*.md", "word_num_limit: 0", "word_num_limit: 0 is not valid; allowed: a whole number, at least 1"),
    ("*.url", "word_num_limit: 500", "word_num_limit: does not apply to web pages; remove it"),
]
"""Rules for documents at Zhipu: a pattern, and the slicing of matching documents."""

AT_ZHIPU = 'target: {type: zhipu, api_key: 1a2b.T0KEN, knowledge_id: "1734786402936664064", %s}'
RULE = 'documents: [{match: "%s", zhipu: {%s}}]'
AT_GPTBOTS = 'target: {type: gptbots, api_key: T0KEN, knowledge_base_id: "67457fea6f658672d6482542", %s}'
ROWS = [
    *((with_settings(text), "mirrors[0]", words) for text, words in MIRROR),
    *((f"{text}\nmirrors: [{{name: a, folder: /srv/a}}]\n", "", words) for text, words in BESIDE),
    *((text, "mirrors", words) for text, words in WHOLE),
    *((with_settings(AT_ZHIPU % text), "mirrors[0].target", words) for text, words in ZHIPU),
    *((with_settings(AT_GPTBOTS % text), "mirrors[0].target", words) for text, words in GPTBOTS),
    *((with_settings(RULE % (match, text)), "documents[0].zhipu", words) for match, text, words in RULES),
]


@pytest.mark.parametrize(("text", "location", "words"), ROWS)
def test_invalid_setting_is_reported_with_its_location_and_valid_values(
    tmp_path: Path, text: str, location: str, words: str
) -> None:
    [problem] = problem_lines(tmp_path, text)
    assert location in problem
    assert words in problem
    assert "T0KEN" not in problem


@pytest.mark.parametrize(
    ("value", "suggestion"),
    [("verbose", "is not valid; allowed"), ("warn", "is not valid; did you mean warning? Allowed")],
)
def test_only_a_similar_value_is_suggested(tmp_path: Path, value: str, suggestion: str) -> None:
    [problem] = problem_lines(tmp_path, f"log_level: {value}\nmirrors: [{{name: a, folder: /srv/a}}]\n")
    assert problem.endswith(f"{suggestion}: debug, info, warning, error")
