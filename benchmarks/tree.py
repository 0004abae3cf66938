"""Creates a folder of many small files for benchmarks: `python benchmarks/tree.py DIR 1000000 10000`.

The folders have two levels with at most 100 folders in one, so that no single listing dominates.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path


def folders(root: Path, count: int) -> Iterator[Path]:
    """Yield the paths of `count` leaf folders below `root`, 100 in each folder of the first level."""
    for number in range(count):
        yield root / f"part-{number // 100:04d}" / f"chapter-{number:06d}"


def build(root: Path, files: int, leaves: int) -> None:
    """Create `files` files of a few bytes, spread evenly over `leaves` folders below `root`."""
    share, rest = divmod(files, leaves)
    for index, folder in enumerate(folders(root, leaves)):
        folder.mkdir(parents=True, exist_ok=True)
        fill(folder, share + (index < rest))


def fill(folder: Path, count: int) -> None:
    """Create `count` files in `folder`, each with different text."""
    holder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in range(count):
            opened = os.open(
                f"page {number:05d}.md", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=holder
            )
            os.write(opened, b"# Page %d\n\nsome words\n" % number)
            os.close(opened)
    finally:
        os.close(holder)


def ensure(root: Path, files: int, leaves: int) -> Path:
    """Return `root`, and build it unless a file next to it says that an earlier run did."""
    mark = root.with_name(root.name + ".built")
    if not mark.exists():
        build(root, files, leaves)
        mark.write_text(f"{files} {leaves}\n", encoding="utf-8")
    return root


if __name__ == "__main__":
    build(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
