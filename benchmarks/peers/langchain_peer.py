"""Indexes a folder of texts with LangChain's index() as its guides do. Runs in a separate environment.

Usage: python langchain_peer.py index|ask|count FOLDER BASE

Passage length and overlap are those of LangChain's guide. The model is kbsync's built-in one.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import faiss
from langchain_classic.indexes import SQLRecordManager, index
from langchain_community.docstore.in_memory import InMemoryDocstore
from langchain_community.document_loaders import DirectoryLoader, TextLoader
from langchain_community.vectorstores import FAISS
from langchain_core.embeddings import Embeddings
from langchain_text_splitters import RecursiveCharacterTextSplitter

from kbsync.index.embed import BuiltinEmbedder

CHUNK_SIZE, CHUNK_OVERLAP = 1000, 200  # characters

FOLDER, BASE = Path(sys.argv[2]), Path(sys.argv[3])


class Builtin(Embeddings):
    """kbsync's built-in model."""

    def __init__(self) -> None:
        """Load the model."""
        self._embedder = BuiltinEmbedder()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text."""
        vectors: list[list[float]] = self._embedder.embed(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question."""
        vector: list[float] = self._embedder.embed_query(text).tolist()
        return vector


def load_store() -> Any:
    """Load the vectors that an earlier run saved, if any."""
    if (BASE / "index.faiss").exists():
        return FAISS.load_local(str(BASE), Builtin(), allow_dangerous_deserialization=True)
    return FAISS(Builtin(), faiss.IndexFlatL2(256), InMemoryDocstore(), {})


def index_folder() -> None:
    """Bring the store up to date with the folder."""
    records = SQLRecordManager("peer", db_url=f"sqlite:///{BASE / 'records.sqlite'}")
    records.create_schema()
    store = load_store()
    loader = DirectoryLoader(
        str(FOLDER), glob=["**/*.md", "**/*.txt"], loader_cls=TextLoader, loader_kwargs={"encoding": "utf-8"}
    )
    splitter = RecursiveCharacterTextSplitter(chunk_size=CHUNK_SIZE, chunk_overlap=CHUNK_OVERLAP)
    passages = splitter.split_documents(loader.lazy_load())
    index(passages, records, store, cleanup="full", source_id_key="source", key_encoder="sha256")
    store.save_local(str(BASE))


def ask() -> None:
    """Print the path of the best passage for each question of a JSON list on stdin."""
    store = load_store()
    for question in json.load(sys.stdin):
        [best] = store.similarity_search(question, k=1)
        print(Path(best.metadata["source"]).relative_to(FOLDER))


def count() -> None:
    """Print the number of passages of each file, as JSON."""
    every = load_store().docstore._dict.values()
    paths = (Path(document.metadata["source"]).relative_to(FOLDER).as_posix() for document in every)
    print(json.dumps(Counter(paths)))


if __name__ == "__main__":
    {"index": index_folder, "ask": ask, "count": count}[sys.argv[1]]()
