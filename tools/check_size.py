"""Measures the size of an installation of kbsync, without test dependencies: `python tools/check_size.py`.

It checks the environment it runs in. The size on disk is the sum of all files of kbsync and its requirements,
bytecode included. The download size is that of the same files packed as wheels; packing takes some seconds,
so the figures are cached next to the environment. The project's limits are 60 MB to download and 180 MB on
disk.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packaging.requirements import Requirement

MAX_DOWNLOAD_BYTES, MAX_DISK_BYTES = 60_000_000, 180_000_000
PACKED = Path(sys.prefix) / ".kbsync-packed.json"
HEADER = 100
"""The bytes that a zip archive adds for each file, in addition to twice its name."""

Distribution = importlib.metadata.Distribution


def required(name: str, requirements: dict[str, Distribution]) -> dict[str, Distribution]:
    """Add `name` and all its installed requirements to `found`, by name, and return it."""
    distribution = importlib.metadata.distribution(name)
    key = distribution.metadata["Name"].lower().replace("_", "-")
    if key in requirements:
        return requirements
    requirements[key] = distribution
    for text in distribution.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            required(requirement.name, requirements)
    return requirements


def files(distribution: Distribution) -> list[Path]:
    """Return the installed files without bytecode; for an editable install, the checkout's files."""
    listed = {Path(str(file.locate())) for file in distribution.files or () if file.suffix != ".pyc"}
    if distribution.metadata["Name"] == "kbsync":
        spec = importlib.util.find_spec("kbsync")
        listed |= set(
            _below(Path(location) for location in spec.submodule_search_locations or ()) if spec else ()
        )
    return sorted(path for path in listed if path.is_file())


def _below(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def bytecode(source: Path) -> Iterator[Path]:
    """Yield the bytecode files that this Python compiled from a source file."""
    if source.suffix == ".py":
        compiled = Path(importlib.util.cache_from_source(str(source)))
        if compiled.is_file():
            yield compiled


def on_disk(distribution: Distribution) -> int:
    """Return the bytes of its files."""
    sources = files(distribution)
    return sum(path.stat().st_size for source in sources for path in (source, *bytecode(source)))


def packed(distribution: Distribution) -> int:
    """Estimate the bytes of its wheel."""
    return sum(_deflated(path) + HEADER + 2 * len(path.name) for path in files(distribution))


def _deflated(path: Path) -> int:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    with path.open("rb") as file:
        size = sum(len(packer.compress(piece)) for piece in iter(lambda: file.read(1 << 20), b""))
    return size + len(packer.flush())


def to_download(distributions: dict[str, Distribution]) -> int:
    """Return the bytes of all wheels. Sizes are cached by name and version."""
    keys = {
        f"{name}=={installed.version}": installed
        for name, installed in distributions.items()
        if name != "kbsync"
    }
    sizes_by_key = json.loads(PACKED.read_text()) if PACKED.is_file() else {}
    missing = [key for key in keys if key not in sizes_by_key]
    with ThreadPoolExecutor(2) as pool:
        sizes_by_key |= zip(missing, pool.map(packed, [keys[key] for key in missing]), strict=True)
    if missing:
        PACKED.write_text(json.dumps(sizes_by_key, indent=1))
    return sum(sizes_by_key[key] for key in keys) + packed(distributions["kbsync"])


def main() -> int:
    """Print both sizes; return 1 if one exceeds its limit, after a list of the largest packages."""
    distributions = required("kbsync", {})
    sizes = {name: on_disk(distribution) for name, distribution in distributions.items()}
    disk, download = sum(sizes.values()), to_download(distributions)
    limits = f"(at most {MAX_DOWNLOAD_BYTES / 1e6:.0f} and {MAX_DISK_BYTES / 1e6:.0f})"
    print(
        f"size           {download / 1e6:.0f} MB to download, {disk / 1e6:.0f} MB on disk {limits},"
        f" {len(sizes)} packages"
    )
    if download <= MAX_DOWNLOAD_BYTES and disk <= MAX_DISK_BYTES:
        return 0
    for name in sorted(sizes, key=lambda package: -sizes[package])[:8]:
        print(f"               {sizes[name] / 1e6:6.1f} MB  {name}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
