"""The builtin embedder: the mean of static token vectors, read from the files the wordllama package ships.

Only its two data files are used. The package itself is not imported: its loader looks in a folder that its
own wheel does not have and would go on to download.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from kbsync.errors import UsageError
from kbsync.packages import installing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


WEIGHTS = Path("weights/l2_supercat_256.safetensors")
TOKENIZER = Path("tokenizers/l2_supercat_tokenizer_config.json")
WEIGHTS_SHA256 = "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"
TOKENIZER_SHA256 = "bf467c9e0f536bda271283c6ef85eb1a943e3196b621c8a912d64953b205df83"
"""Of the file without white space at its end, in which the wheels 0.2.2.post0 and 0.4 differ."""

MODEL = f"wordllama-l2-supercat-256-{WEIGHTS_SHA256[:12]}/1"
"""Identity of the builtin vectors, known without loading anything."""

DIMENSIONS = 256
MOST_TOKENS = 1024
"""What a text has beyond this many tokens is left out of its vector."""

_BATCH = 64  # texts whose token vectors are in memory at one time


class BuiltinEmbedder:
    """Reads the wordllama weights in `folder` (default: the installed package's)."""

    def __init__(self, folder: Path | None = None) -> None:
        """Load the files. Raises `UsageError` where one is missing or not the one that is expected."""
        folder = folder or _package_folder()
        self._tokenizer = _tokenizer(folder / TOKENIZER)
        self._table = _weights(folder / WEIGHTS)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (len(texts), 256), rows of length 1; a zero row for a text without tokens."""
        import numpy as np

        # The weights are kept as float32 from the first document on; one query is quicker without.
        if self._table.dtype != np.float32:
            self._table = self._table.astype(np.float32)
        vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
        for start in range(0, len(texts), _BATCH):
            batch = list(texts[start : start + _BATCH])
            encodings = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            for row, encoding in enumerate(encodings, start):
                vectors[row] = self._mean(encoding.ids)
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Shape (256,), length 1."""
        return self._mean(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _mean(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The mean of the vectors of `ids`, at length 1."""
        import numpy as np

        total = self._table.take(ids, axis=0).sum(axis=0, dtype=np.float32)
        length = float(np.sqrt(total @ total))
        return total / length if length else total  # type: ignore[no-any-return]


_loading = threading.Lock()
_loaded: WeakSet[BuiltinEmbedder] = WeakSet()


def shared() -> BuiltinEmbedder:
    """The embedder of the installed package: one for all mirrors, for as long as any of them has it.

    Raises `UsageError` where its files are missing or not those that are expected.
    """
    with _loading:
        embedder = next(iter(_loaded), None) or BuiltinEmbedder()
        _loaded.add(embedder)
        return embedder


def _package_folder() -> Path:
    """Where wordllama is installed."""
    spec = importlib.util.find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"the builtin embedding needs the package wordllama, which is missing; {_cure()}")
    return Path(next(iter(spec.submodule_search_locations)))


def _tokenizer(path: Path) -> Any:
    """The tokenizer in `path`, without padding, cut off at `MOST_TOKENS`."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # else it warns after a fork
    from tokenizers import Tokenizer

    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    _check(path, hashlib.sha256(content.rstrip()).hexdigest(), TOKENIZER_SHA256)
    tokenizer = Tokenizer.from_str(content.decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(MOST_TOKENS)
    return tokenizer


def _weights(path: Path) -> Any:
    """The token vectors in `path`, as they are stored: float16, shape (tokens, 256)."""
    from safetensors import safe_open

    try:
        with path.open("rb") as file:
            _check(path, hashlib.file_digest(file, "sha256").hexdigest(), WEIGHTS_SHA256)
    except OSError as error:
        raise _unreadable(path, error) from error
    with safe_open(path, framework="np") as tensors:
        return tensors.get_tensor("embedding.weight")


def _unreadable(path: Path, error: OSError) -> UsageError:
    """What to say of a data file that cannot be read."""
    return UsageError(
        f"the builtin embedding cannot read {path}: {error.strerror}; wordllama is incomplete; {_cure()}"
    )


def _check(path: Path, digest: str, expected: str) -> None:
    """Raise `UsageError` where a file is not the one whose vectors the index holds."""
    if digest != expected:
        raise UsageError(
            f"{path} is not the file the builtin embedding was made for (SHA-256 {digest}); {_cure()}"
        )


def _cure() -> str:
    return f"reinstall it: {installing('wordllama', anew=True)}"
