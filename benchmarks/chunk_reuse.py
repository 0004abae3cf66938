"""Measures how many chunks of a file change with an edit: new chunks in percent, over many trials.

python benchmarks/chunk_reuse.py [--trials 60]
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable, Iterator
from itertools import product

from kbsync.index.chunk import chunk
from kbsync.index.document import Flavour, Parsed

PARAGRAPHS = 200
Write = Callable[[random.Random, int], str]
Edit = Callable[[random.Random, list[str], Write], list[str]]


def english(rng: random.Random, tokens: int) -> str:
    """Return an English paragraph of about `tokens` tokens."""
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvw", k=rng.randint(2, 10))) for _ in range(tokens)]
    for number in range(10, len(words), 12):
        words[number] += "."
    return " ".join(words).capitalize() + "."


def chinese(rng: random.Random, tokens: int) -> str:
    """Return a Chinese paragraph of `tokens` characters."""
    characters = [chr(rng.randint(0x4E00, 0x9FA5)) for _ in range(tokens)]
    for number in range(18, len(characters), 20):
        characters[number] = "。"
    return "".join(characters) + "。"


def edited(parts: list[str], index: int, text: str) -> list[str]:
    """Return `parts` with another text at `index`, under the same heading."""
    heading, gap, _ = parts[index].rpartition("\n\n")
    return [*parts[:index], heading + gap + text, *parts[index + 1 :]]


def reword(rng: random.Random, parts: list[str], write: Write) -> list[str]:
    """Replace a few characters in the middle of one paragraph."""
    index = rng.randrange(len(parts))
    text = parts[index].rpartition("\n\n")[2]
    return edited(parts, index, text[: len(text) // 2] + write(rng, 2) + text[len(text) // 2 + 4 :])


def lengthen(rng: random.Random, parts: list[str], write: Write) -> list[str]:
    """Add a sentence to one paragraph."""
    index = rng.randrange(len(parts))
    return edited(parts, index, parts[index].rpartition("\n\n")[2] + write(rng, 9))


def rewrite(rng: random.Random, parts: list[str], write: Write) -> list[str]:
    """Replace one paragraph by another of some other length."""
    index = rng.randrange(len(parts))
    return edited(parts, index, write(rng, rng.randint(len(parts[index]) // 9, len(parts[index]) // 5) + 10))


def insert(rng: random.Random, parts: list[str], write: Write) -> list[str]:
    """Insert a paragraph."""
    index = rng.randrange(len(parts))
    return [*parts[: index + 1], write(rng, rng.randint(50, 150)), *parts[index + 1 :]]


def keys(parts: list[str]) -> list[str]:
    """Return the chunk keys of a file with these paragraphs."""
    return [piece.key for piece in chunk(Parsed("\n\n".join(parts), Flavour.MARKDOWN, title="File"))]


def shares(write: Write, edit: Edit, headings: bool, sizes: tuple[int, int], trials: int) -> Iterator[float]:
    """Yield the percentage of new chunks in each trial; with `headings` every ninth paragraph has one."""
    rng = random.Random(11)
    for _ in range(trials):
        parts = [write(rng, rng.randint(*sizes)) for _ in range(PARAGRAPHS)]
        if headings:
            parts[::9] = [f"## {write(rng, 4)}\n\n{part}" for part in parts[::9]]
        after = keys(edit(rng, parts, write))
        yield 100 * len(set(after) - set(keys(parts))) / len(after)


def main() -> None:
    """Print a table."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--trials", type=int, default=60)
    trials = arguments.parse_args().trials
    print(f"{'language':9}{'paragraphs':12}{'headings':10}{'edit':10}{'mean %':>8}{'most %':>8}")
    sizes = {"of 20-40": (20, 40), "of 50-150": (50, 150)}
    for write, size, headings, edit in product(
        (english, chinese), sizes, (False, True), (reword, lengthen, rewrite, insert)
    ):
        percentages = list(shares(write, edit, headings, sizes[size], trials))
        row = f"{write.__name__:9}{size:12}{'some' if headings else 'none':10}{edit.__name__:10}"
        print(f"{row}{statistics.mean(percentages):8.2f}{max(percentages):8.2f}")
    text = "\n\n".join(english(random.Random(1), 100) for _ in range(PARAGRAPHS))
    same = [chunk(Parsed(text, Flavour.MARKDOWN)) for _ in range(2)]
    print(f"saved again: {len({piece.key for piece in same[1]} - {piece.key for piece in same[0]})} new")


if __name__ == "__main__":
    main()
