"""Searches all mirrors of an installation, for `search` and `ask`, and shows the hits to a person."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from kbsync.cli.context import not_yet, read_state, reader, unmade
from kbsync.cli.exit_codes import Code, OfMirror, concerning
from kbsync.cli.output import Output, cells
from kbsync.config.model import MirrorConfig
from kbsync.contract.searching import Image, Query
from kbsync.contract.target import Target
from kbsync.core.text import counted, printable
from kbsync.engine.search import (
    FoundDocument,
    SearchedMirror,
    matches_any,
    merge,
    search_mirrors,
    searches,
    with_images,
)
from kbsync.engine.status import forgotten_bases
from kbsync.errors import UnmadeError, UsageError
from kbsync.index.snippet import snippet, without_markup
from kbsync.installation import Installation
from kbsync.state.read_only import Tx

if TYPE_CHECKING:
    from kbsync.contract.searching import Passage
    from kbsync.state.mirrors import MirrorRecord


def find(installation: Installation, query: Query, *, images: bool) -> list[FoundDocument]:
    """The best documents of all mirrors. Raises `UsageError` before anything was mirrored.

    `images`: with the pictures in their passages, where a target has such.
    """

    async def search() -> list[FoundDocument]:
        async with opened_for_search(installation) as mirrors:
            with unmade(installation):
                found = await search_all(mirrors, query)
            return await with_images(found, mirrors) if images else found

    return asyncio.run(search())


@asynccontextmanager
async def opened_for_search(installation: Installation) -> AsyncIterator[list[SearchedMirror]]:
    """The mirrors that something was mirrored into. Raises `UsageError` where there are none."""
    async with AsyncExitStack() as stack:
        mirrors = []
        for mirror in installation.mirrors:
            record, forgotten = read_state(installation, partial(_look_for, mirror.name))
            if forgotten:
                continue
            try:
                with unmade(installation):
                    target = await asyncio.to_thread(installation.target, mirror, read_only=True)
            except UsageError as error:
                # Of several mirrors one that had no pass yet is left out; one that had is broken.
                if record is not None and record.last_pass is not None:
                    raise OfMirror(mirror.name, error, Code.USAGE) from error
                continue
            await stack.enter_async_context(aclosing(target))
            # A service's base exists before anything of ours is in it: others' documents are no hits
            # (promise 6). Where the state was lost, what kbsync indexed itself is still ours; and some
            # machines only search.
            is_there = record is not None or mirror.target.searches_all
            if is_there or (target.limits.embedded and (await target.base()).documents):
                mirrors.append(searched(installation, mirror, target))
        if not mirrors:
            raise not_yet(installation)
        yield mirrors


def _look_for(name: str, tx: Tx) -> tuple[MirrorRecord | None, bool]:
    """The mirror in the state, and whether it was forgotten: a search finds nothing of that."""
    return tx.mirrors.named(name), bool(forgotten_bases(tx, name))


async def search_all(mirrors: Sequence[SearchedMirror], query: Query) -> list[FoundDocument]:
    """The best documents of all these mirrors. Raises `KbsyncError`, with the name of the mirror."""
    if query.rerank:
        for mirror in mirrors:
            if not mirror.target.reranks:
                raise UsageError(
                    f"--rerank: mirror {mirror.name} has no ranking model; "
                    "name a service under target.rerank in its config, or search without --rerank"
                )

    empty = list[UnmadeError]()

    async def ask(group: Sequence[SearchedMirror], its: Query) -> tuple[SearchedMirror, list[FoundDocument]]:
        try:
            with concerning(group[0].name):
                return group[0], await search_mirrors(group, its)
        except OfMirror as error:
            if not isinstance(error.__cause__, UnmadeError):
                raise
            # Of several mirrors one that has nothing yet is left out.
            empty.append(error.__cause__)
            return group[0], []

    asked = searches(mirrors, query)
    answers = await asyncio.gather(*(ask(group, its) for group, its in asked))
    if len(empty) == len(asked):
        raise empty[0]
    return merge(answers, query)


def searched(installation: Installation, mirror: MirrorConfig, target: Target) -> SearchedMirror:
    """A mirror with its open target."""
    return SearchedMirror(mirror.name, mirror.folder, target, reader(installation))


def unmatched_options(installation: Installation, query: Query) -> list[str]:
    """Those of `--path`, `--type` and `--after` that no document of any mirror matches, as typed.

    None where documents of other hosts were searched as well: the state does not know them.
    """
    if not query.own and any(mirror.target.searches_all for mirror in installation.mirrors):
        return []
    alone = [(f"--type {printable(each)}", Query("", types=(each,))) for each in query.types]
    if query.path is not None:
        alone.insert(0, (f"--path {printable(query.path)}", Query("", path=query.path)))
    if query.after is not None:
        alone.append((f"--after {iso_time(query.after)}", Query("", after=query.after)))

    def matches(tx: Tx, one: Query) -> bool:
        return any(matches_any(tx, each.name, each.folder, one) for each in installation.mirrors)

    def look(tx: Tx) -> list[str]:
        return [option for option, one in alone if not matches(tx, one)]

    return read_state(installation, look)


def hit_json(found: FoundDocument) -> dict[str, Any]:
    """A hit of `search --json`; the contract has its fields."""
    passages = [
        {
            "text": passage.text,
            "headings": list(passage.headings),
            "page": passage.page,
            "score": round(passage.score, 6),
            **images_json(passage.images),
        }
        for passage in found.hit.passages
    ]
    best = passages[0] if passages else {"text": "", "headings": [], "page": None}
    return {
        "path": found.path,
        "abs_path": str(found.absolute),
        "document_id": found.hit.remote_id,
        "score": round(found.hit.score, 6),
        "text": best["text"],
        "title": found.hit.title,
        "headings": best["headings"],
        "page": best["page"],
        "mirror": found.mirror,
        "host": found.host,
        "as_of": iso_time(found.as_of),
        "modified": iso_time(found.hit.modified),
        **({"images": best["images"]} if "images" in best else {}),
        "passages": passages,
    }


def images_json(images: Sequence[Image]) -> dict[str, Any]:
    """The field `images`, where there are any."""
    listed = [{"placeholder": each.placeholder, "url": each.url} for each in images]
    return {"images": listed} if listed else {}


def iso_time(seconds: float | None) -> str | None:
    """ISO 8601 in UTC; None for no time and for one beyond the calendar."""
    if seconds is None:
        return None
    try:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


LINES = 2
INDENT = "    "


def print_hits(output: Output, hits: Sequence[FoundDocument], query: str, *, several: bool) -> None:
    """Each document with its best passage; best first.

    `several`: more than one mirror was searched, so each hit tells its own, whichever were found in.
    """
    for place, found in enumerate(hits):
        if place:
            output.line()
        output.line(_heading(output, found, several))
        if found.hit.passages:
            for line in excerpt(output, found, query):
                output.line(INDENT + line)
            if images := found.hit.passages[0].images:
                output.line(INDENT + output.dim(f"{counted(len(images), 'image')}; --json tells where"))


def _heading(output: Output, found: FoundDocument, several: bool) -> str:
    """Path, way through the headings, place, score; whose it is and as of when, where it is not ours."""
    path = output.bold(printable(found.path))
    if found.is_here:
        path = output.link(path, found.absolute)
    parts = [output.dim(f"{printable(found.whose)}: ") + path if several or found.is_foreign else path]
    passage = found.hit.passages[0] if found.hit.passages else None
    if trail := heading_trail(found, passage):
        parts.append(printable(trail))
    if passage is not None and passage.page is not None:
        parts.append(f"p. {passage.page}")
    elif passage is not None and passage.line is not None:
        parts.append(f"line {passage.line}")
    return "  ".join([*parts, output.dim(f"{found.hit.score:.2f}"), *map(output.dim, as_of(found))])


def as_of(found: FoundDocument) -> list[str]:
    """How old a document of another machine may be, in words; [] for one of this machine."""
    return [] if found.is_here else [f"as of {iso_time(found.as_of)}"]


def heading_trail(found: FoundDocument, passage: Passage | None) -> str:
    """The way through the headings to a passage, or the document's title; "" where it has neither."""
    headings = passage.headings if passage else ()
    return " › ".join(headings) or found.hit.title or ""


def excerpt(output: Output, found: FoundDocument, query: str, *, unfinished: bool = False) -> Iterator[str]:
    """The snippet of the best passage on at most two lines, the words that were found in bold.

    `unfinished`: the query is still being typed.
    """
    room = max(20, output.columns - len(INDENT) - 1)
    passage = found.hit.passages[0]
    text = without_markup(passage.text, found.path, passage.headings or [found.hit.title or ""])
    look = partial(snippet, printable(" ".join(text.split())), query, unfinished=unfinished)
    shown = look(LINES * room - 6)
    if (taken := cells(shown.text)) > LINES * room - 6:
        # Wide characters take two cells.
        shown = look((LINES * room - 6) * len(shown.text) // taken)
    for start, end in _broken(shown.text, room):
        parts, at = list[str](), start
        for left, right in shown.spans:
            left, right = max(left, start), min(right, end)
            if left < right:
                parts += [shown.text[at:left], output.bold(shown.text[left:right])]
                at = right
        line = "".join([*parts, shown.text[at:end]])
        before = "…" if start == 0 and shown.starts_late else ""
        yield before + line + ("…" if end == len(shown.text) and shown.ends_early else "")


def _broken(text: str, room: int) -> list[tuple[int, int]]:
    """Where each line starts and ends; broken at a space where one is near enough."""
    lines, start = list[tuple[int, int]](), 0
    while start < len(text) and len(lines) < LINES:
        end, taken = start, 0
        while end < len(text) and (taken := taken + cells(text[end])) <= room:
            end += 1
        if end < len(text) and (space := text.rfind(" ", start, end + 1)) > start + (end - start) // 2:
            end = space
        lines.append((start, end))
        start = end + (text[end : end + 1] == " ")
    return lines
