"""An embedder of the user's own: a sentence-transformer as an ONNX graph with its tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbsync.errors import UsageError
from kbsync.packages import installing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


MOST_TOKENS = 512
"""Longest input unless the tokenizer's own file says less; what most such models were trained with."""

_GRAPHS = ("model.onnx", "onnx/model.onnx")
_BATCH = 4  # measured: 16 takes four times the memory of 1 and is no faster on two cores
_THREADS = 2


class OnnxEmbedder:
    """Reads `model.onnx` (or `onnx/model.onnx`) and `tokenizer.json` in `folder`.

    A graph with the output `sentence_embedding` pools by itself; otherwise the first output, shaped
    (texts, tokens, dimensions), is averaged over the tokens that are not padding.
    """

    def __init__(self, folder: Path) -> None:
        """Load the graph. Raises `UsageError` where a file or the package onnxruntime is missing."""
        graph, tokenizer = _files(folder)
        self._session = _session(graph)
        self._tokenizer = _tokenizer(tokenizer)
        self._inputs = [each.name for each in self._session.get_inputs()]
        outputs = [each.name for each in self._session.get_outputs()]
        self._is_pooled = "sentence_embedding" in outputs
        self._output = "sentence_embedding" if self._is_pooled else outputs[0]
        self.dimensions = int(self._run(["a"]).shape[1])

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (len(texts), dimensions), rows of length 1; texts of about one length share a batch."""
        import numpy as np

        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            vectors[batch] = self._run([texts[index] for index in batch])
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Shape (dimensions,), length 1."""
        vector: NDArray[np.float32] = self.embed([text])[0]
        return vector

    def _run(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One pass through the graph."""
        import numpy as np

        encodings = self._tokenizer.encode_batch(list(texts))
        mask = np.array([each.attention_mask for each in encodings], np.int64)
        given = {
            "input_ids": np.array([each.ids for each in encodings], np.int64),
            "attention_mask": mask,
            "token_type_ids": np.array([each.type_ids for each in encodings], np.int64),
        }
        feed = {name: given[name] for name in self._inputs if name in given}
        vectors: NDArray[np.float32] = np.asarray(self._session.run([self._output], feed)[0], np.float32)
        if not self._is_pooled:  # the mean over the tokens whose mask is 1
            weights: NDArray[np.float32] = mask[:, :, None].astype(vectors.dtype)
            vectors = (vectors * weights).sum(axis=1) / weights.sum(axis=1).clip(min=1)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)
        lengths[lengths == 0] = 1
        vectors /= lengths
        return vectors


def model_name(folder: Path) -> str:
    """Identity of the vectors a model in `folder` makes: a hash of its files. Raises `UsageError`."""
    digest = hashlib.sha256()
    for path in _files(folder):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"onnx-{digest.hexdigest()[:16]}/1"


def _files(folder: Path) -> tuple[Path, Path]:
    """The graph and the tokenizer in `folder`, which may name the graph itself."""
    if folder.is_file():
        homes = (folder.parent, folder.parent.parent)
        tokenizer = next(
            (home / "tokenizer.json" for home in homes if (home / "tokenizer.json").is_file()), None
        )
        if tokenizer is None:
            raise UsageError(f"embedding.path: there is no tokenizer.json beside {folder}")
        return folder, tokenizer
    graph = next((folder / name for name in _GRAPHS if (folder / name).is_file()), None)
    tokenizer = folder / "tokenizer.json"
    if graph is None or not tokenizer.is_file():
        missing = "model.onnx (or onnx/model.onnx)" if graph is None else "tokenizer.json"
        raise UsageError(f"embedding.path: {folder} has no {missing}; export the model to ONNX there")
    return graph, tokenizer


def _session(graph: Path) -> Any:
    """An inference session on the processor."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(
            "embedding.type: onnx needs the package onnxruntime; install it beside kbsync: "
            + installing("onnxruntime")
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _THREADS
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for each kind of failure and no common base
        raise UsageError(f"embedding.path: {graph} cannot be loaded as an ONNX graph: {error}") from error


def _tokenizer(path: Path) -> Any:
    """The tokenizer in `path`, padding to the longest text of a batch."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise UsageError(f"embedding.path: {path} is not a tokenizer file: {error}") from error
    own = tokenizer.truncation or {}
    tokenizer.enable_truncation(min(MOST_TOKENS, own.get("max_length", MOST_TOKENS)))
    padding = tokenizer.padding or {}
    tokenizer.enable_padding(pad_id=padding.get("pad_id", 0), pad_token=padding.get("pad_token", "[PAD]"))
    return tokenizer
