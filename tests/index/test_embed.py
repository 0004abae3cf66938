from __future__ import annotations

import builtins
import errno
import importlib
import json
import os
import shutil
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from kbsync.errors import UsageError
from kbsync.index import embed
from kbsync.index.embed import (
    MODEL,
    TOKENIZER,
    WEIGHTS,
    WEIGHTS_SHA256,
    BuiltinEmbedder,
    LocalEncoder,
    OnnxEmbedder,
    onnx_name,
)
from tests.index.samples import PARTS
from tests.share import enumerated, long

TEXTS = [
    "Employees get thirty days of leave.",
    "员工每年有三十天假期。",
    "",
    "def f(x): return x",
    "a " * 5_000,
]


@pytest.fixture(scope="module")
def builtin() -> BuiltinEmbedder:
    return BuiltinEmbedder()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    source = embed.wordllama_folder()
    for name in (WEIGHTS, TOKENIZER):
        (tmp_path / name).parent.mkdir()
        shutil.copy(source / name, tmp_path / name)
    return tmp_path


@long
def test_vectors_are_normalized_and_equal_those_of_a_query(builtin: BuiltinEmbedder) -> None:
    vectors = builtin.embed(TEXTS)
    assert vectors.shape == (5, embed.DIMENSIONS)
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0, 1, 1], atol=1e-5)
    assert np.allclose(builtin.embed_query(TEXTS[1]), vectors[1], atol=1e-5)
    assert not any(builtin.embed_query(""))


def test_text_beyond_the_limit_is_truncated(builtin: BuiltinEmbedder) -> None:
    long = "day leave " * 2_000
    assert np.allclose(
        builtin.embed_query(long + "sailing boat " * 900), builtin.embed_query(long), atol=1e-5
    )


@long
def test_vectors_match_the_library(builtin: BuiltinEmbedder) -> None:
    inference = importlib.import_module("wordllama.inference")
    folder = embed.wordllama_folder()  # its own loader uses another folder for these files
    [weights] = load_file(folder / WEIGHTS).values()
    config = SimpleNamespace(tokenizer=SimpleNamespace(model_dump=dict))
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    theirs = inference.WordLlamaInference(weights, config, tokenizer).embed(TEXTS[:2], norm=True)
    assert (builtin.embed(TEXTS[:2]) * theirs).sum(axis=1).min() >= 0.99999


@long
def test_library_is_not_imported_and_the_network_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def guarded(name: str, *args: object) -> object:
        assert name.partition(".")[0] not in ("wordllama", "requests", "huggingface_hub")
        return original(name, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", guarded)
    BuiltinEmbedder().embed(["x"])


@long
def test_tokenizer_file_may_lack_its_last_newline(data: Path, builtin: BuiltinEmbedder) -> None:
    file = data / TOKENIZER
    file.write_bytes(file.read_bytes().rstrip())
    assert np.array_equal(BuiltinEmbedder(data).embed(TEXTS), builtin.embed(TEXTS))


@pytest.mark.parametrize(("part", "position"), [(WEIGHTS, 200), (TOKENIZER, -200)])
def test_missing_or_changed_file_is_reported_with_a_fix(data: Path, part: Path, position: int) -> None:
    file = data / part
    change(file, position)
    with pytest.raises(UsageError, match=r"SHA-256.*pip install --force-reinstall"):
        BuiltinEmbedder(data)
    file.unlink()
    with pytest.raises(UsageError, match=f"{part}: No such file.*pip install"):
        BuiltinEmbedder(data)


def test_weights_are_verified_completely_before_the_first_passage(data: Path) -> None:
    change(data / WEIGHTS, -200)
    with pytest.raises(UsageError, match=r"SHA-256.*pip install --force-reinstall"):
        BuiltinEmbedder(data).embed(["x"])


def test_query_does_not_use_truncated_weights(data: Path) -> None:
    os.truncate(data / WEIGHTS, 100_000)
    with pytest.raises(UsageError, match=r"is truncated; reinstall it: .*pip install"):
        BuiltinEmbedder(data).embed_query("员工每年有三十天假期。")


@enumerated()
@pytest.mark.parametrize("text", [*TEXTS, "a </s> b", "<s>", "<unk>", "x" * 299, "leave " * 60])
def test_query_vector_is_the_same_before_and_after_loading_the_weights(
    builtin: BuiltinEmbedder, text: str
) -> None:
    unloaded = BuiltinEmbedder().embed_query(text)
    assert np.allclose(unloaded, builtin.embed([text])[0], atol=1e-5)
    assert np.array_equal(unloaded, builtin.embed_query(text))


def change(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


def test_missing_package_is_reported_with_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"`wordllama` package, which is missing; reinstall it: .* -m pip"):
        BuiltinEmbedder()


def test_mirrors_share_one_model_until_the_last_releases_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "_loaded", WeakSet())
    encoders = [LocalEncoder(), LocalEncoder()]
    model = weakref.ref(encoders[0]._loaded())
    assert encoders.pop()._loaded() is model()
    encoders.pop()
    assert model() is None


def test_model_is_identified_by_its_weights_without_loading_them() -> None:
    encoder = LocalEncoder()
    assert encoder.model == MODEL
    assert WEIGHTS_SHA256[:12] in MODEL
    assert encoder._model is None


def graph(folder: Path, *, pooled: bool) -> Path:
    """Write a model of five words in three dimensions.

    It looks up a vector for each token as `last_hidden_state`; pooled, it also returns each dimension's
    maximum as `sentence_embedding`, which isn't a mean.
    """
    folder.mkdir(parents=True)
    shutil.copy(PARTS / ("pooled.onnx" if pooled else "tokens.onnx"), folder / "model.onnx")
    shutil.copy(PARTS / "five-words.json", folder / "tokenizer.json")
    return folder


def test_token_vectors_are_averaged_without_padding(tmp_path: Path) -> None:
    model = OnnxEmbedder(graph(tmp_path / "m", pooled=False))
    assert model.dimensions == 3
    vectors = model.embed(["one two", "three", "one", "Two two two", "two one", ""])
    half = np.array([1, 2, 0]) / np.sqrt(5)
    assert np.allclose(vectors, [half, [0, 0, 1], [1, 0, 0], [0, 1, 0], half, [0, 0, 0]], atol=1e-6)
    assert np.allclose(model.embed_query("three"), [0, 0, 1])


def test_graph_that_pools_itself_is_trusted(tmp_path: Path) -> None:
    model = OnnxEmbedder(graph(tmp_path / "m", pooled=True))
    assert np.allclose(model.embed(["one three"]), [np.array([1, 0, 3]) / np.sqrt(10)], atol=1e-6)


def described(folder: Path, **files: object) -> Path:
    """Write a model of token vectors with files of sentence-transformers next to it, `__` for `/` in their
    names.
    """
    graph(folder, pooled=False)
    for name, content in files.items():
        file = folder / f"{name.replace('__', '/')}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
    return folder


def pooled_by(folder: Path, **settings: object) -> list[float]:
    """Return the vector of `one two three three` in a model with this pooling, its largest number 1."""
    model = OnnxEmbedder(described(folder, **{"1_Pooling__config": settings}))
    [_, vector] = model.embed(["two", "one two three three"])  # one with padding next to it
    return [round(float(number) / max(vector), 3) for number in vector]


@pytest.mark.parametrize(
    ("settings", "vector"),
    [
        ({}, [0.167, 0.333, 1]),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, [0.167, 0.333, 1]),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, [1, 0, 0]),
        ({"pooling_mode": "cls"}, [1, 0, 0]),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, [0, 0, 1]),
        ({"pooling_mode_max_tokens": True}, [0.333, 0.667, 1]),
        ({"pooling_mode_weightedmean_tokens": True}, [0.048, 0.19, 1]),
    ],
)
def test_token_vectors_are_pooled_as_the_model_was_trained(
    tmp_path: Path, settings: dict[str, object], vector: list[float]
) -> None:
    assert pooled_by(tmp_path / "m", **settings) == vector


def test_pooling_folder_is_the_listed_one(tmp_path: Path) -> None:
    modules = [{"path": "", "type": "m.Transformer"}, {"path": "p", "type": "m.Pooling"}]
    folder = described(tmp_path / "m", modules=modules, p__config={"pooling_mode_cls_token": True})
    assert np.allclose(OnnxEmbedder(folder).embed(["one two"]), [[1, 0, 0]])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"1_Pooling__config": {"pooling_mode": "attention"}},
            "a pooling method that kbsync does not support, attention;",
        ),
        ({"1_Pooling__config": {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}}, "and max"),
        ({"modules": [{"path": "2_Dense", "type": "m.Dense"}]}, "mean and Dense; export it with an output"),
        (
            {"1_Pooling__config": []},
            "1_Pooling/config.json is not in the format that sentence-transformers writes",
        ),
    ],
)
def test_unknown_model_requirements_are_reported(
    tmp_path: Path, files: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        OnnxEmbedder(described(tmp_path / "m", **files))


PROMPTS = {"query": "one ", "passage": "two "}


@pytest.mark.parametrize(
    ("files", "query", "passage"),
    [
        ({"config_sentence_transformers": {"prompts": PROMPTS}}, [1, 0, 3], [0, 2, 3]),
        ({"config_sentence_transformers": {"prompts": {"query": "one "}}}, [1, 0, 3], [0, 0, 1]),
        (
            {"config_sentence_transformers": {"prompts": {"any": "two "}, "default_prompt_name": "any"}},
            [0, 2, 3],
            [0, 2, 3],
        ),
        ({"config_sentence_transformers": {"prompts": {"query": "", "document": ""}}}, [0, 0, 1], [0, 0, 1]),
        ({"config": {"_name_or_path": "some/other"}}, [0, 0, 1], [0, 0, 1]),
    ],
)
def test_queries_and_passages_get_the_models_prompts(
    tmp_path: Path, files: dict[str, object], query: list[int], passage: list[int]
) -> None:
    model = OnnxEmbedder(described(tmp_path / "m", **files))
    assert np.allclose(model.embed_query("three"), query / np.linalg.norm(query))
    assert np.allclose(model.embed(["three"])[0], passage / np.linalg.norm(passage))


@pytest.mark.parametrize(
    ("name", "has_prompts"),
    [("multilingual-e5-small", True), ("e5", True), ("e5-mistral-7b-instruct", False), ("bge5-small", False)],
)
def test_e5_models_have_their_prompts_in_no_file(tmp_path: Path, name: str, has_prompts: bool) -> None:
    folders = [
        described(tmp_path / name),
        described(tmp_path / "renamed", config={"_name_or_path": f"intfloat/{name}"}),
    ]
    for folder in folders:
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        tokenizer["model"]["vocab"] = {"[PAD]": 0, "query": 1, "passage": 2, "three": 3, "[UNK]": 4}
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        model = OnnxEmbedder(folder)
        differs = not np.allclose(model.embed_query("three"), model.embed(["three"])[0])
        assert differs is has_prompts


def length(size: int) -> bytes:
    """Return a protobuf varint."""
    return bytes((size,)) if size < 128 else bytes((size % 128 | 128,)) + length(size // 128)


def with_input(model: bytes, name: str, kind: int = 7) -> bytes:
    """Return an ONNX model whose graph (field 7) has one more input (field 11): a tensor of this type."""
    shape = b"\x0a\x02\x12\x00"  # one dimension of any size
    tensor = bytes((0x08, kind, 0x12, len(shape) * 2)) + shape * 2
    typed = b"\x0a" + length(len(tensor)) + tensor
    value = b"\x0a" + length(len(name)) + name.encode() + b"\x12" + length(len(typed)) + typed
    position = 0
    while model[position] != 0x3A:  # each other field of the model is short, or a number of one byte
        position += 2 + (model[position + 1] if model[position] & 7 == 2 else 0)
    size, start = 0, position + 1
    for shift in range(5):
        byte, start = model[start], start + 1
        size |= (byte & 127) << 7 * shift
        if byte < 128:
            break
    graph = model[start : start + size] + b"\x5a" + length(len(value)) + value
    return model[:position] + b"\x3a" + length(len(graph)) + graph + model[start + size :]


@pytest.mark.parametrize("name", ["position_ids", "token_type_ids", "task_id"])
def test_model_gets_the_inputs_it_requires_or_an_error_is_reported(tmp_path: Path, name: str) -> None:
    folder = graph(tmp_path / "m", pooled=False)
    file = folder / "model.onnx"
    file.write_bytes(with_input(file.read_bytes(), name))
    if name == "task_id":
        with pytest.raises(
            UsageError, match=r"model\.onnx needs the inputs task_id; kbsync provides only attention_mask"
        ):
            OnnxEmbedder(folder)
    else:
        assert np.allclose(OnnxEmbedder(folder).embed(["one"]), [[1, 0, 0]])


def test_graph_that_takes_no_text_is_reported(tmp_path: Path) -> None:
    folder = graph(tmp_path / "m", pooled=False)
    file = folder / "model.onnx"
    file.write_bytes(with_input(file.read_bytes(), "position_ids", kind=1))  # floats
    with pytest.raises(UsageError, match="does not produce a vector for a text"):
        OnnxEmbedder(folder)


def test_model_identity_includes_everything_that_affects_vectors(tmp_path: Path) -> None:
    folder = graph(tmp_path / "m", pooled=False)
    names = {onnx_name(folder)}
    pooling = folder / "1_Pooling" / "config.json"
    location = b"\x0a\x08location\x12\x07weights"
    for change in (
        lambda: (folder / "model.onnx_data").write_bytes(b"one"),
        lambda: (folder / "model.onnx_data").write_bytes(b"two"),
        lambda: (folder / "model.onnx").write_bytes(b"a graph with" + location),
        lambda: (folder / "weights").write_bytes(b"one"),
        lambda: (folder / "weights").write_bytes(b"two"),
        lambda: (folder / "1_Pooling").mkdir() or pooling.write_text('{"pooling_mode": "cls"}'),
    ):
        change()
        names.add(onnx_name(folder))
    assert len(names) == 7
    (folder / "README.md").write_text("of no importance")
    assert onnx_name(folder) in names


def test_model_is_identified_by_its_files(tmp_path: Path) -> None:
    folder, other = graph(tmp_path / "m", pooled=False), graph(tmp_path / "n", pooled=True)
    assert LocalEncoder(folder).model == onnx_name(folder)
    assert onnx_name(folder) == onnx_name(folder / "model.onnx") != onnx_name(other)
    (other / "onnx").mkdir()
    (other / "model.onnx").rename(other / "onnx" / "model.onnx")
    assert OnnxEmbedder(other).dimensions == 3


def test_missing_tokenizer_of_a_model_is_reported(tmp_path: Path) -> None:
    folder = graph(tmp_path / "m", pooled=False)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match=r"has no tokenizer\.json"):
        OnnxEmbedder(folder)


@pytest.mark.parametrize("part", ["model.onnx", "tokenizer.json", "modules.json"])
def test_unreadable_model_is_an_error_of_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    folder = graph(tmp_path / "m", pooled=True)
    open_file = Path.open

    def open_others(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == part:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return open_file(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_others)
    with pytest.raises(UsageError, match=rf"embedding\.path: .*{part} cannot be read: Permission denied"):
        LocalEncoder(folder).model  # noqa: B018
