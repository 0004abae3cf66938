"""Indexes a folder of texts with CocoIndex as its guides do. Runs in a separate environment.

Usage: python cocoindex_peer.py index|ask|count FOLDER BASE

Passage length and overlap are those of CocoIndex's text embedding example. The model is kbsync's built-in
one.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cocoindex as coco
import numpy as np
from cocoindex.connectors import localfs, sqlite
from cocoindex.ops.text import RecursiveSplitter
from cocoindex.resources.id import IdGenerator

from kbsync.index.embed import BuiltinEmbedder

CHUNK_SIZE, CHUNK_OVERLAP = 2000, 500  # bytes

FOLDER, BASE = Path(sys.argv[2]), Path(sys.argv[3])
DATABASE: Any = coco.ContextKey("database")

splitter = RecursiveSplitter()
embedder = BuiltinEmbedder()


@dataclass
class Passage:
    """A row of the base."""

    id: int
    path: str
    text: str
    vector: bytes


@coco.lifespan
async def lifespan(builder: Any) -> AsyncIterator[None]:
    """Open the base for the time of an update."""
    builder.settings.db_path = BASE / "cocoindex"
    with sqlite.managed_connection(BASE / "base.sqlite", load_vec=False) as connection:
        builder.provide(DATABASE, connection)
        yield


@coco.fn(memo=True)
async def index_file(file: Any, table: Any) -> None:
    """Declare the passages of a file."""
    text = await file.read_text()
    chunks = splitter.split(
        text, chunk_size=CHUNK_SIZE, chunk_overlap=CHUNK_OVERLAP, language=file.file_path.path.suffix[1:]
    )
    vectors = embedder.embed([piece.text for piece in chunks])
    ids = IdGenerator()
    for chunk, vector in zip(chunks, vectors, strict=True):
        row = Passage(
            await ids.next_id(chunk.text),
            file.file_path.path.relative_to(FOLDER).as_posix(),
            chunk.text,
            vector.tobytes(),
        )
        table.declare_row(row=row)


@coco.fn
async def main(folder: Path) -> None:
    """Declare the base as a function of the folder."""
    table = await sqlite.mount_table_target(
        DATABASE,
        table_name="passages",
        table_schema=await sqlite.TableSchema.from_class(Passage, primary_key=["id"]),
    )
    files = localfs.walk_dir(folder, recursive=True)
    await coco.mount_each(index_file, files.items(), table)


def connect() -> sqlite3.Connection:
    """Open the base for reading."""
    return sqlite3.connect(BASE / "base.sqlite")


def ask() -> None:
    """Print the path of the best passage for each question of a JSON list on stdin."""
    rows = connect().execute("SELECT path, vector FROM passages").fetchall()
    vectors = np.array([np.frombuffer(vector, np.float32) for _, vector in rows])
    for question in json.load(sys.stdin):
        print(rows[int(np.argmax(vectors @ embedder.embed_query(question)))][0])


def count() -> None:
    """Print the number of passages of each file, as JSON."""
    rows = connect().execute("SELECT path, count(*) FROM passages GROUP BY path").fetchall()
    print(json.dumps(dict(rows)))


if __name__ == "__main__":
    match sys.argv[1]:
        case "index":
            app: Any = coco.App("peer", main, FOLDER)
            app.update_blocking()
        case "ask":
            ask()
        case "count":
            count()
