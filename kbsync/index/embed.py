"""Computes vectors with one model: the built-in one, the user's own in ONNX format, or a service's.

The built-in model is the mean of static token vectors, read from the files that the wordllama package ships.
kbsync uses only its two data files, without importing the package: its loader searches a folder that its own
wheel lacks, and would then download the files. The user's own model is a sentence-transformer as an ONNX
graph with its tokenizer. Encoders that use a service are in the services' clients.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import mmap
import os
import re
import struct
import sys
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakSet

from kbsync import install_command
from kbsync.dataclass import dataclass
from kbsync.errors import Rejected, UsageError
from kbsync.index.document import Chunk
from kbsync.threads import searches_first

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32] | array[float]

T = TypeVar("T", list[Any], dict[str, Any])

Vectors = Mapping[str, bytes | Rejected]
"""The float16 bytes of each vector, or the reason why there is none, keyed by chunk."""


class Encoder(Protocol):
    """Computes vectors with one model."""

    @property
    def model(self) -> str:
        """Return the model's name and version without loading the model. Both are part of each recipe."""

    @property
    def takes_pictures(self) -> bool:
        """Whether the model can also embed pictures."""

    @property
    def at_once(self) -> int:
        """Maximum number of chunks in one request."""

    @property
    def least_cosine(self) -> float | None:
        """The cosine below which texts are unrelated, or None to estimate it from the stored vectors."""

    def begin(self, chunks: Sequence[Chunk]) -> Future[Vectors]:
        """Start computing vectors. The result raises `TargetError` if the service itself is to blame."""

    def query(self, text: str) -> Vector:
        """Return the unit-length vector of a question. Raises `TargetError` if a service fails."""

    def close(self) -> None:
        """Close connections."""


NUMBER_BYTES = 2
"""Size in bytes of one component of a stored vector (float16)."""


class VectorsLackingError(Exception):
    """Raised if vectors that a document needs were deleted along with another document, after this one was
    split.

    They have to be computed outside the transaction, because a service may respond slowly and all writes
    would have to wait for it.
    """

    def __init__(self, chunks: Sequence[Chunk], vectors: dict[str, bytes]) -> None:
        """Store the chunks that lack vectors. `vectors`: the document's other vectors, by key."""
        super().__init__("vectors were deleted meanwhile")
        self._chunks, self._vectors = chunks, vectors

    def compute(self, encoder: Encoder) -> None:
        """Compute the document's missing vectors. Raises `TargetError`."""
        for key, vector in encoder.begin(self._chunks).result().items():
            if isinstance(vector, Rejected):
                raise vector from None
            self._vectors[key] = vector


class LocalEncoder:
    """The built-in model, or the user's own in ONNX format, loaded when the first text needs it."""

    takes_pictures = False
    at_once = sys.maxsize

    def __init__(self, onnx: Path | None = None) -> None:
        """Set up the embedder without loading a model. `onnx` is the folder of the user's own model."""
        self._onnx = onnx
        self._model: BuiltinEmbedder | OnnxEmbedder | None = None
        self._loading = threading.Lock()

    @cached_property
    def model(self) -> str:
        """The model's name or, for the user's own model, a digest of its files, which are read on first
        use.
        """
        return MODEL if self._onnx is None else onnx_name(self._onnx)

    @property
    def least_cosine(self) -> float | None:
        """The minimum cosine measured for the built-in model. It is unknown for the user's own model."""
        return MIN_COSINE if self._onnx is None else None

    def begin(self, chunks: Sequence[Chunk]) -> Future[Vectors]:
        """Compute the vectors immediately, and return a finished future.

        Raises `UsageError` if the model can't be read.
        """
        import numpy as np

        # float16 takes half the space of float32.
        vectors = self._loaded().embed([item.embed_text for item in chunks]).astype(np.float16)
        future = Future[Vectors]()
        future.set_result({item.key: row.tobytes() for item, row in zip(chunks, vectors, strict=True)})
        return future

    def query(self, text: str) -> Vector:
        """Return the unit-length vector of a question."""
        return self._loaded().embed_query(text)

    def close(self) -> None:
        """Do nothing, because there are no connections to close."""

    def _loaded(self) -> BuiltinEmbedder | OnnxEmbedder:
        with self._loading:
            if self._model is None:
                self._model = shared() if self._onnx is None else OnnxEmbedder(self._onnx)
            return self._model


# -- the built-in model ------------------------------------------------------------------------------------

WEIGHTS = Path("weights/l2_supercat_256.safetensors")
TOKENIZER = Path("tokenizers/l2_supercat_tokenizer_config.json")
WEIGHTS_SHA256 = "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"
BEGINNING_SHA256 = "1f38c548221bb49a90b075ccf6b0df49c8a8bd7a0ee0ea5c62659b9f7d2e4c88"
"""Digest of the first `_BEGINNING` bytes of the weights, which is enough to detect another model's file."""
TOKENIZER_SHA256 = "bf467c9e0f536bda271283c6ef85eb1a943e3196b621c8a912d64953b205df83"
"""Digest of the file without its trailing whitespace, which differs between the wheels 0.2.2.post0 and
0.4."""

MODEL = f"wordllama-l2-supercat-256-{WEIGHTS_SHA256[:12]}/1"
"""Identity of the built-in vectors, available without loading them."""

MIN_COSINE = 0.2
"""Minimum cosine of the built-in vectors of related texts; for unrelated English texts, the cosine is about
0.1.
"""

DIMENSIONS = 256
MAX_TOKENS = 1024
"""Maximum number of tokens used for the vector of a text; the vector ignores the rest of the text."""

_MAX_QUESTION_LENGTH = 300  # characters; for longer texts, the tokenizer library is faster
_BATCH = 64  # maximum number of texts whose token vectors are in memory at a time
_BEGINNING = 65_536
_HEADER = 96  # bytes of the weights before the rows: a length and JSON
_ROW = 2 * DIMENSIONS  # float16
_SPECIAL = ("<unk>", "<s>", "</s>")


class BuiltinEmbedder:
    """Reads the wordllama files in `folder` (default: those of the installed package).

    For a question, it reads only a few rows of the weights and checks the beginning of the file. For the
    first passage, it loads and checks everything, including the tokenizer library.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Check the files. Raises `UsageError` if one is missing or isn't the expected one."""
        folder = folder or wordllama_folder()
        self._weights, self._tokens = folder / WEIGHTS, folder / TOKENIZER
        self._table: NDArray[np.float32] | None = None
        self._vocabulary = Vocabulary(self._read_tokenizer())
        self._read_rows([])  # checks only the beginning of the weights file

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return vectors of shape (len(texts), 256).

        Rows have unit length, but a text without tokens has a row of zeros. Raises `UsageError` if the
        weights or the tokenizer are no longer the expected ones.
        """
        import numpy as np

        if self._table is None:
            with _reading(self._weights):
                content = self._weights.read_bytes()
            _expect(self._weights, hashlib.sha256(content), WEIGHTS_SHA256)
            table = np.frombuffer(content, np.float16, offset=_HEADER).reshape(-1, DIMENSIONS)
            self._table = table.astype(np.float32)
        vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
        for start in searches_first.pace(range(0, len(texts), _BATCH)):
            batch = list(texts[start : start + _BATCH])
            encodings = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            for row, encoding in enumerate(encodings, start):
                # The direction of the mean; zero without tokens.
                total = self._table.take(encoding.ids, axis=0).sum(axis=0, dtype=np.float32)
                vectors[row] = total / (float(np.sqrt(total @ total)) or 1.0)
        return vectors

    def embed_query(self, text: str) -> array[float]:
        """Return a vector of 256 float32 values with unit length, or of zeros. Raises the same `UsageError`
        as `embed`.

        This doesn't import numpy, which would take a quarter of the run time of `kbsync search`.
        """
        if len(text) > _MAX_QUESTION_LENGTH or any(token in text for token in _SPECIAL):
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        else:
            ids = self._vocabulary.encode(text)
        rows = self._read_rows(ids) if self._table is None else self._table.take(ids, axis=0).tolist()
        total = [sum(column) for column in zip(*rows, strict=True)] or [0.0] * DIMENSIONS
        length = math.hypot(*total) or 1.0
        return array("f", (value / length for value in total))

    @cached_property
    def _tokenizer(self) -> Any:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # otherwise it warns after a fork
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self._read_tokenizer().decode())
        tokenizer.no_padding()
        tokenizer.enable_truncation(MAX_TOKENS)
        return tokenizer

    def _read_tokenizer(self) -> bytes:
        with _reading(self._tokens):
            content = self._tokens.read_bytes()
        _expect(self._tokens, hashlib.sha256(content.rstrip()), TOKENIZER_SHA256)
        return content

    def _read_rows(self, ids: Sequence[int]) -> list[tuple[float, ...]]:
        """Return the 256 weights for each of a few tokens."""
        with _reading(self._weights), self._weights.open("rb", buffering=0) as file:
            beginning = file.read(_BEGINNING)
            rows = b"".join(os.pread(file.fileno(), _ROW, _HEADER + number * _ROW) for number in ids)
        _expect(self._weights, hashlib.sha256(beginning), BEGINNING_SHA256)
        if len(rows) != len(ids) * _ROW:
            raise UsageError(f"{self._weights} is truncated; {_fix()}")
        return list(struct.iter_unpack(f"={DIMENSIONS}e", rows))


_SPACE = "\u2581"  # a space in the vocabulary
_PIECE = re.compile(f"{_SPACE}*[^{_SPACE}]*")  # no token has a space after another character

Rank = tuple[bool, int, int, int]


class Vocabulary:
    """A SentencePiece vocabulary in the JSON format of `tokenizers`. Characters that it lacks become bytes.

    It tokenizes questions exactly as the library tokenizes documents. Loading the library and its vocabulary
    takes longer than a search; a question is short, so byte-pair encoding in Python is fast enough.
    """

    def __init__(self, content: bytes) -> None:
        """Read the vocabulary from `content`, the JSON file. Raises ValueError."""
        start = content.index(b"{", content.index(b'"vocab"'))
        end = content.rindex(b"}", start, content.index(b'"merges"', start)) + 1
        self._ids: dict[str, int] = json.loads(content[start:end])

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without special tokens."""
        normalized = _SPACE + text.replace(" ", _SPACE) if text else ""
        numbers = list[int]()
        for piece in _PIECE.findall(normalized):
            # Repeatedly join the pair with the lowest rank; among equals, the first.
            parts = [part for character in piece for part in self._parts(character)]
            ranks = [self.rank(*pair) for pair in pairwise(parts)]
            while known := [rank for rank in ranks if rank is not None]:
                at = ranks.index(min(known))
                parts[at : at + 2] = [parts[at] + parts[at + 1]]
                del ranks[at]
                if at > 0:
                    ranks[at - 1] = self.rank(parts[at - 1], parts[at])
                if at < len(ranks):
                    ranks[at] = self.rank(parts[at], parts[at + 1])
            numbers += [self._ids[part] for part in parts]
        return numbers

    def rank(self, left: str, right: str) -> Rank | None:
        """Return the rank at which the two tokens are merged, or None if they never are. The pair with the
        lowest rank is merged first.

        The order is the same as in the file's list of merges: by the number of the resulting token, with runs
        of spaces last.
        """
        both = self._ids.get(left + right)
        if both is None:
            return None
        return not (left + right).strip(_SPACE), both, self._ids[left], self._ids[right]

    def _parts(self, character: str) -> list[str]:
        if character in self._ids:
            return [character]
        return [f"<0x{byte:02X}>" for byte in character.encode()]


_loading = threading.Lock()
_loaded: WeakSet[BuiltinEmbedder] = WeakSet()


def shared() -> BuiltinEmbedder:
    """Return the embedder from the installed package, which all mirrors share while any of them uses it.

    Raises `UsageError` if its files are missing or aren't the expected ones.
    """
    with _loading:
        embedder = next(iter(_loaded), None) or BuiltinEmbedder()
        _loaded.add(embedder)
        return embedder


def wordllama_folder() -> Path:
    """Return the folder of the installed wordllama package."""
    spec = importlib.util.find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"the built-in embedding needs the `wordllama` package, which is missing; {_fix()}")
    return Path(next(iter(spec.submodule_search_locations)))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn an OSError into a `UsageError` with the fix."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"the built-in embedding cannot read {path}: {error.strerror}; wordllama is incomplete; {_fix()}"
        ) from error


def _expect(path: Path, digest: hashlib._Hash, sha256: str) -> None:
    """Raise `UsageError` if the file isn't the one with which the vectors in the index were computed."""
    actual = digest.hexdigest()
    if actual != sha256:
        raise UsageError(
            f"{path} isn't the file that the built-in embedding requires (SHA-256 {actual}); {_fix()}"
        )


def _fix() -> str:
    return f"reinstall it: {install_command('wordllama', reinstall=True)}"


# -- the user's own model ----------------------------------------------------------------------------------

ONNX_TOKENS = 512
"""Maximum number of input tokens, unless the tokenizer file sets a lower limit. Most models of this kind were
trained with this maximum."""

_GRAPHS = ("model.onnx", "onnx/model.onnx")
_ONNX_BATCH = 4  # measured: 16 takes four times the memory of 1 and is no faster on two cores
_THREADS = 2


class OnnxEmbedder:
    """Reads `model.onnx` (or `onnx/model.onnx`) and `tokenizer.json` in `folder`.

    A graph with the output `sentence_embedding` does its own pooling. Otherwise, the first output, of shape
    (texts, tokens, dimensions), is pooled as specified by the files in the folder.
    """

    def __init__(self, folder: Path) -> None:
        """Load the graph.

        Raises `UsageError` if a file or the onnxruntime package is missing, or if the graph doesn't turn
        texts into vectors.
        """
        graph, tokenizer = _onnx_files(folder)
        self._usage = _read_usage(tokenizer.parent)
        self._session = _session(graph)
        self._tokenizer = _onnx_tokenizer(tokenizer)
        self._inputs = {tensor.name: tensor.type for tensor in self._session.get_inputs()}
        if unknown := sorted(self._inputs.keys() - _INPUTS):
            raise UsageError(
                f"embedding.path: {graph} needs the inputs {', '.join(unknown)}; kbsync provides only "
                f"{', '.join(sorted(_INPUTS))}; export the model for feature extraction"
            )
        outputs = [tensor.name for tensor in self._session.get_outputs()]
        self._is_pooled = "sentence_embedding" in outputs
        self._output = "sentence_embedding" if self._is_pooled else outputs[0]
        if not self._is_pooled and self._usage.pooling not in _POOLINGS:
            raise UsageError(
                f"embedding.path: the model in {folder} uses a pooling method that kbsync does not "
                f"support, {self._usage.pooling}; export it with an output named sentence_embedding"
            )
        try:
            self.dimensions = int(self._run(["a"]).shape[1])
        except Exception as error:  # onnxruntime has a class for each kind of failure and no common base
            raise UsageError(
                f"embedding.path: {graph} does not produce a vector for a text ({error}); export the model "
                "for feature extraction"
            ) from error

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of passages, with shape (len(texts), dimensions) and rows of unit length."""
        return self._embed([self._usage.passage_prompt + text for text in texts])

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a question, with shape (dimensions,) and unit length."""
        vector: NDArray[np.float32] = self._embed([self._usage.query_prompt + text])[0]
        return vector

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors, computed in batches of texts of similar length."""
        import numpy as np

        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), _ONNX_BATCH):
            batch = order[start : start + _ONNX_BATCH]
            vectors[batch] = self._run([texts[index] for index in batch])
        return vectors

    def _run(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Run one batch through the graph."""
        import numpy as np

        encodings = self._tokenizer.encode_batch(list(texts))
        mask = np.array([encoding.attention_mask for encoding in encodings], np.int64)
        inputs = {
            "input_ids": np.array([encoding.ids for encoding in encodings], np.int64),
            "attention_mask": mask,
            "token_type_ids": np.array([encoding.type_ids for encoding in encodings], np.int64),
            "position_ids": np.broadcast_to(np.arange(mask.shape[1], dtype=np.int64), mask.shape),
        }
        feed = {
            name: inputs[name].astype(np.int32) if kind == "tensor(int32)" else inputs[name]
            for name, kind in self._inputs.items()
        }
        vectors: NDArray[np.float32] = np.asarray(self._session.run([self._output], feed)[0], np.float32)
        if not self._is_pooled:
            if vectors.ndim != 3:
                raise ValueError(f"the output {self._output} has {vectors.ndim} dimensions instead of 3")
            vectors = _POOLINGS[self._usage.pooling](vectors, mask)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)
        lengths[lengths == 0] = 1
        vectors /= lengths
        return vectors


_INPUTS = {"input_ids", "attention_mask", "token_type_ids", "position_ids"}


def _mean(vectors: NDArray[np.float32], weights: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the mean over the tokens. Padding has no weight."""
    shares: NDArray[np.float32] = weights[:, :, None].astype(vectors.dtype)
    mean: NDArray[np.float32] = (vectors * shares).sum(axis=1) / shares.sum(axis=1).clip(min=1)
    return mean


def _weighted_mean(vectors: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return a mean that gives later tokens more weight, because their vectors reflect more of the text."""
    return _mean(vectors, mask * mask.cumsum(axis=1))


def _greatest(vectors: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the maximum of each dimension."""
    import numpy as np

    tokens = np.where(mask[:, :, None] > 0, vectors, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(np.isfinite(tokens), tokens, 0).astype(np.float32)


def _first(vectors: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    return _mean(vectors, mask * (mask.cumsum(axis=1) == 1))


def _last(vectors: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    return _mean(vectors, mask * (mask.cumsum(axis=1) == mask.sum(axis=1, keepdims=True)))


# By their names in sentence-transformers. At length 1, the pooling with the square root equals the mean.
_POOLINGS: Mapping[str, Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]]] = {
    "mean": _mean,
    "mean_tokens": _mean,
    "mean_sqrt_len_tokens": _mean,
    "weightedmean": _weighted_mean,
    "weightedmean_tokens": _weighted_mean,
    "max": _greatest,
    "max_tokens": _greatest,
    "cls": _first,
    "cls_token": _first,
    "lasttoken": _last,
}


@dataclass(frozen=True, slots=True)
class _Usage:
    """The pooling and the prompts that a model needs and that its graph doesn't specify."""

    pooling: str = "mean"
    query_prompt: str = ""
    passage_prompt: str = ""


_E5 = re.compile(r"(?<![a-z0-9])e5(?![a-z0-9])", re.IGNORECASE)


def _read_usage(home: Path) -> _Usage:
    """Return the usage specified by the sentence-transformers files in the model's folder. Raises
    `UsageError`.

    Without such files, the mean of the tokens is used, without prompts. The prompts of E5 models aren't in
    any file, so these models are recognized by name.
    """
    modules = [item for item in _json(home / "modules.json", list) if isinstance(item, dict)]
    kinds = {str(item.get("type", "")).rpartition(".")[2]: str(item.get("path", "")) for item in modules}
    settings = _json(home / kinds.get("Pooling", "1_Pooling") / "config.json", dict)
    modes = [name.removeprefix("pooling_mode_") for name, value in settings.items() if value is True]
    modes = [str(settings["pooling_mode"])] if "pooling_mode" in settings else modes
    pooling = [mode for mode in modes if mode != "include_prompt"] or ["mean"]
    pooling += [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    settings = _json(home / "config_sentence_transformers.json", dict)
    prompts = {name: text for name, text in (settings.get("prompts") or {}).items() if text}
    name = str(_json(home / "config.json", dict).get("_name_or_path") or home.resolve().name)
    if not prompts and _E5.search(name) and "instruct" not in name.lower():
        prompts = {"query": "query: ", "passage": "passage: "}
    default = prompts.get(settings.get("default_prompt_name"), "")
    passage = next((prompts[item] for item in ("document", "passage", "corpus") if item in prompts), default)
    return _Usage(" and ".join(pooling), prompts.get("query", default), passage)


def _json(path: Path, kind: type[T]) -> T:
    """Return the content of a JSON file, or an empty value if the file doesn't exist. Raises `UsageError`."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return kind()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"embedding.path: {path} cannot be read: {reason}") from error
    if not isinstance(content, kind):
        raise UsageError(f"embedding.path: {path} is not in the format that sentence-transformers writes")
    return content


def onnx_name(folder: Path) -> str:
    """Return the identity of the vectors from the model in `folder`: a hash of its files and its usage.

    Raises `UsageError`.
    """
    digest = hashlib.sha256()
    try:
        graph, tokenizer = _onnx_files(folder)
        # The weights may be in files next to the graph, which names them.
        weights = {graph.with_name(f"{graph.name}_data"), graph.with_name(f"{graph.name}.data")}
        if graph.stat().st_size:
            with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                for match in _EXTERNAL.finditer(content):
                    name = content[match.end() : match.end() + match[1][0]]
                    weights.add(graph.parent / os.fsdecode(name))
        for path in (graph, *sorted(filter(Path.is_file, weights)), tokenizer):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        path = error.filename or folder
        raise UsageError(f"embedding.path: {path} cannot be read: {error.strerror}") from error
    digest.update(repr(_read_usage(tokenizer.parent)).encode())
    return f"onnx-{digest.hexdigest()[:16]}/2"


_EXTERNAL = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])")  # StringStringEntryProto of a tensor's data


def _onnx_files(folder: Path) -> tuple[Path, Path]:
    """Return the paths of the graph and the tokenizer. `folder` may also be the path of the graph itself."""
    if folder.is_file():
        homes = (folder.parent, folder.parent.parent)
        tokenizer = next(
            (home / "tokenizer.json" for home in homes if (home / "tokenizer.json").is_file()), None
        )
        if tokenizer is None:
            raise UsageError(f"embedding.path: there is no tokenizer.json next to {folder}")
        return folder, tokenizer
    graph = next((folder / name for name in _GRAPHS if (folder / name).is_file()), None)
    tokenizer = folder / "tokenizer.json"
    if graph is None or not tokenizer.is_file():
        missing = "model.onnx (or onnx/model.onnx)" if graph is None else "tokenizer.json"
        raise UsageError(f"embedding.path: {folder} has no {missing}; export the model to ONNX there")
    return graph, tokenizer


def _session(graph: Path) -> Any:
    """Return an inference session that runs on the CPU."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(
            "embedding.type: onnx needs the `onnxruntime` package; install it alongside kbsync: "
            f"{install_command('onnxruntime')}"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _THREADS
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for each kind of failure and no common base
        raise UsageError(f"embedding.path: {graph} cannot be loaded as an ONNX graph: {error}") from error


def _onnx_tokenizer(path: Path) -> Any:
    """Return the tokenizer at `path`, set to pad to the longest text in a batch."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise UsageError(f"embedding.path: {path} is not a tokenizer file: {error}") from error
    truncation = tokenizer.truncation or {}
    tokenizer.enable_truncation(min(ONNX_TOKENS, truncation.get("max_length", ONNX_TOKENS)))
    padding = tokenizer.padding or {}
    tokenizer.enable_padding(pad_id=padding.get("pad_id", 0), pad_token=padding.get("pad_token", "[PAD]"))
    return tokenizer
