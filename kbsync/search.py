"""Runs searches for `kbsync search`, the web page and assistants. All of them get the same hits, notes and
JSON.

Each caller provides the installation with its targets (`OpenMirrors`), and renders the reply.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import field, replace
from typing import Any, Protocol, TypeVar

from kbsync.config.model import MirrorConfig
from kbsync.contract.query_syntax import parse_query
from kbsync.contract.searching import Image, MatchedWord, Passage, Query, UnknownWords, selector
from kbsync.contract.target import Target
from kbsync.core.model import Presence, Status
from kbsync.core.text import format_list, printable
from kbsync.dataclass import dataclass
from kbsync.engine.search import (
    FoundDocument,
    SearchedMirror,
    Unmatched,
    find_unmatched,
    merge,
    search_mirrors,
    search_soon,
    searches,
    with_images,
)
from kbsync.engine.status import CREDENTIALS, forgotten_bases, found_state, iso
from kbsync.errors import Halted, KbsyncError, UnmadeError, UsageError, system_reason
from kbsync.freshness import Freshness, Note, freshness_reader
from kbsync.index.snippet import plain_heading, without_markup
from kbsync.index.words import has_cjk
from kbsync.installation import Installation
from kbsync.state.read_only import SnapshotReader, Tx
from kbsync.threads import gather, in_mirror_threads, in_thread

T = TypeVar("T")


class OpenMirrors(Protocol):
    """An installation that can open its targets. Use it from only one event loop.

    `will_mirror`: whether this process is mirroring or is about to. `obstacle`: why it can't mirror, or "" if
    it can.
    """

    will_mirror: bool
    obstacle: str

    @property
    def installation(self) -> Installation:
        """The installation with the current config."""

    @property
    def read(self) -> SnapshotReader:
        """Read the state."""

    def target(self, mirror: MirrorConfig) -> AbstractAsyncContextManager[Target]:
        """Return the mirror's target, open for reading. Raises `KbsyncError`."""

    def write_time(self, moment: float) -> str:
        """Format epoch seconds for a note, as local time only for a user of this machine."""

    async def reload_secrets(self, names: Collection[str]) -> bool:
        """Reload the keys of these mirrors after a service refused one.

        Return False if the keys are unchanged.
        """


@dataclass(frozen=True, slots=True)
class SearchReply:
    """The reply to a search: the hits, best first, and notes on gaps.

    `freshness`: how up to date each searched mirror is. `errors`: why a mirror couldn't be searched, by name.
    `answered`: the mirrors that responded. `unmatched`: which of path, types and date no document matches, or
    empty if there are hits. `guesses`: the replacements for words that no document contains. `query`: the
    query as searched, without operators in its text.
    """

    hits: Sequence[FoundDocument]
    freshness: Sequence[Freshness]
    notes: Sequence[Note]
    errors: Mapping[str, Exception] = field(default_factory=dict)
    answered: Collection[str] = ()
    unmatched: Unmatched = field(default_factory=Unmatched)
    guesses: Sequence[str] = ()
    query: Query = field(default_factory=lambda: Query(""))

    def note_lines(self, *, minor: bool = False, hint: str | None = None) -> list[str]:
        """Return the notes as text.

        `minor`: include those that a user at a terminal already knows about. `hint`: where a reader without a
        terminal can read more about failed files.
        """
        return [note.line(hint) for note in self.notes if minor or not note.is_minor]


async def search(
    opened: OpenMirrors, query: Query, only: Collection[str] = (), *, images: bool = False, soon: bool = False
) -> SearchReply:
    """Find the best documents in the mirrors named `only`, or in all mirrors. The text of `query` may contain
    operators (`parse_query`).

    `images`: whether to include the pictures in the passages, if the target has them. `soon`: whether to omit
    mirrors that don't respond in time. Raises `UsageError` for an invalid query, or `StateError`.
    """
    typed, query = query, parse_query(query)
    selector(query)  # raises an error for a path that isn't a valid pattern
    installation = opened.installation
    mirrors = [mirror for mirror in installation.mirrors if not only or mirror.name in only]
    documents, errors, answered, unknown, notes = await _find(
        opened, mirrors, query, images=images, soon=soon
    )
    refused = [
        name for name, error in errors.items() if isinstance(error, Halted) and error.halt == CREDENTIALS
    ]
    if refused and await opened.reload_secrets(refused):
        return await search(opened, typed, only, images=images, soon=soon)
    read_freshness = freshness_reader(installation, mirrors, check_folders=True)
    # This machine's state doesn't have other machines' documents.
    is_known = query.own or not any(mirror.target.searches_all for mirror in mirrors)
    folders = {mirror.name: mirror.folder for mirror in mirrors}

    # A mirror without a record was searched only because its base has documents, so the state was lost.
    own_bases = {mirror.name for mirror in mirrors if not mirror.target.searches_all}

    def read_state(tx: Tx) -> tuple[list[Freshness], list[FoundDocument], Unmatched, set[str]]:
        freshness = read_freshness(tx)
        unrecorded = {name for name in own_bases.intersection(answered) if tx.mirrors.named(name) is None}
        as_of = {item.status.name: item.as_of for item in freshness}
        hits = [_with_state(tx, document, as_of) for document in documents]
        is_narrowed = query.selects and is_known and not documents
        unmatched = find_unmatched(tx, folders, query) if is_narrowed else Unmatched()
        return freshness, hits, unmatched, unrecorded

    freshness, hits, unmatched, unrecorded = await opened.read(read_state)
    searchable = unrecorded.union(hit.mirror for hit in hits)
    held = {hit.mirror for hit in hits if hit.is_gone and hit.state is Status.HELD}
    has_good_hits = bool(hits) and not (unknown and all(target.are_all for target in unknown))
    lacks_phrase = bool(query.phrases) and not hits
    guesses = {} if lacks_phrase else _guesses(unknown)
    none_has = "no searched document has" if errors else "no document has"
    if lacks_phrase and answered and unmatched == Unmatched():
        notes = [*notes, _note_on_phrases(query, none_has)]
    if query.text.strip() and not hits and not any(map(str.isalnum, query.text)):
        notes = [*notes, Note("the query has no letters or digits to search for", explains_hits=True)]
    notes = [
        *notes,
        *_notes_on_words(guesses, unknown, none_has, has_hits=bool(hits)),
        *notes_on(freshness, opened, with_held_hits=held, searchable=searchable, has_good_hits=has_good_hits),
        *_notes_on_errors(errors, freshness, opened),
    ]
    words = list(filter(None, guesses.values()))
    return SearchReply(hits, freshness, notes, errors, answered, unmatched, words, query)


def _note_on_phrases(query: Query, none_has: str) -> Note:
    """Return a note for a query whose phrases no document has. `none_has`: the words to begin with."""
    phrases = " ".join(f"“{phrase}”" for phrase in query.phrases)
    without = " ".join(f"“{word}”" for word in query.excluded)
    text = f"{none_has} {phrases}{' without ' * bool(without)}{without} word for word"
    text = f"{text}; omit the quotes to search for the individual words"
    return Note(printable(text), explains_hits=True)


def _notes_on_errors(
    errors: Mapping[str, Exception], freshness: Sequence[Freshness], opened: OpenMirrors
) -> list[Note]:
    """Return notes on the mirrors that couldn't be searched. `notes_on` covers mirrors before their first
    pass.
    """
    fresh = {item.status.name: item for item in freshness}
    lines = []
    for name, error in errors.items():
        what_next = ""
        if isinstance(error, UnmadeError):
            if not fresh[name].has_passed:
                continue
            what_next = "; kbsync is working on it"
            if not opened.will_mirror and fresh[name].is_unattended:
                what_next = f"; run: {opened.installation.command_line('--once')}"
        lines.append(f"{name}: not searched: {system_reason(error)}{what_next}")
    return [Note(printable(line)) for line in lines]


def _guesses(unknown: Sequence[UnknownWords]) -> dict[str, str]:
    """Return the words that no target has, each with the word that was searched for instead, or ""."""
    return {
        word: next((target.instead[word] for target in unknown if target.instead[word]), "")
        for word in (unknown[0].instead if unknown else ())
        if all(word in target.instead for target in unknown)
    }


def _notes_on_words(
    guesses: Mapping[str, str], unknown: Sequence[UnknownWords], none_has: str, *, has_hits: bool
) -> list[Note]:
    """Return notes on words that no document contains.

    `unknown`: the unknown words of each target. `none_has`: the words to begin with.
    """
    lines = [f"{none_has} “{word}”; {_instead(word, other)}" for word, other in guesses.items() if other]
    if not lines and not has_hits and guesses:
        lines = [f"{none_has} {_any_of(guesses)}"]
    elif not lines and unknown and has_hits and all(target.are_all for target in unknown):
        if translation := list(dict.fromkeys(word for target in unknown for word in target.translation)):
            instead = "”, “".join(translation)
            lines = [
                f"{none_has} the words of this question; searched for a translation of them: “{instead}”"
            ]
        else:
            lines = [f"{none_has} {_any_of(guesses)}; the hits are similar in meaning"]
    elif has_hits and (
        codes := [word for word in guesses if any(word in target.codes for target in unknown)]
    ):
        lines.append(f"{none_has} {_any_of(codes)}")
    return [Note(printable(line), explains_hits=True) for line in lines]


_MAX_TYPOS = 2  # a corrected word is at most this much longer


def _instead(word: str, other: str) -> str:
    """Return what was searched for instead of a word: `other`, or longer words that begin with the word."""
    is_beginning = len(other) > len(word) + _MAX_TYPOS and other.casefold().startswith(word.casefold())
    return f"searched for {'words that begin with it, such as ' * is_beginning}“{other}”"


def _any_of(words: Iterable[str]) -> str:
    return format_list([f"“{word}”" for word in _join_pairs(words)], "or")


def _join_pairs(words: Iterable[str]) -> list[str]:
    """Return the words, with the pairs of adjacent characters in Chinese, Japanese and Korean joined, and
    without the single characters in these pairs.
    """
    listed, joined = list(words), list[str]()
    cjk = set(filter(has_cjk, listed))
    for word in listed:
        if word in cjk and len(word) == 1 and any(word in pair for pair in cjk - {word}):
            continue
        if joined and word in cjk and has_cjk(joined[-1]) and joined[-1][-1] == word[0]:
            joined[-1] += word[1:]
        else:
            joined.append(word)
    return joined


def notes_on(
    freshness: Sequence[Freshness],
    opened: OpenMirrors,
    *,
    with_held_hits: Collection[str] = (),
    searchable: Collection[str] = (),
    has_good_hits: bool = False,
) -> list[Note]:
    """Return notes on gaps in a reply about these mirrors. Each note names its mirror.

    `with_held_hits`: the mirrors that have held documents among the hits. `searchable`: the mirrors known to
    have documents. `has_good_hits`: whether any hits contain words of the query.
    """
    command_line = opened.installation.command_line
    return [
        replace(note, text=printable(f"{item.status.name}: {note.text}"), hint=printable(note.hint))
        for item in freshness
        for note in item.notes(
            command_line,
            write_time=opened.write_time,
            will_mirror=opened.will_mirror,
            obstacle=opened.obstacle,
            has_held_hits=item.status.name in with_held_hits,
            is_searchable=item.status.name in searchable,
            has_good_hits=has_good_hits,
        )
    ]


def filters_in_words(
    query: Query, unmatched: Unmatched, write_time: Callable[[float], str] = iso
) -> list[list[tuple[str, str]]]:
    """Return the filters of a query that no document matches, as names and printable values.

    If each of them alone matches something, return all of them together.
    """

    def filters(query: Query) -> Iterator[tuple[str, str]]:
        yield from (("path", printable(path)) for path in query.paths)
        if query.types:
            yield "type", printable(",".join(query.types))
        if query.after is not None:
            yield "after", write_time(query.after)

    queries = unmatched.alone or ([query] if unmatched.together else [])
    return [list(filters(alternative)) for alternative in queries]


async def open_all(
    opened: OpenMirrors, mirrors: Sequence[MirrorConfig], stack: AsyncExitStack
) -> tuple[list[SearchedMirror], dict[str, Exception]]:
    """Open the mirrors that have documents, until `stack` ends.

    Also return why others can't be opened, keyed by name.
    """

    def read_mirrors(tx: Tx) -> tuple[set[str], set[str]]:
        names = [mirror.name for mirror in mirrors]
        recorded = {name for name in names if tx.mirrors.named(name) is not None}
        return recorded, {name for name in names if forgotten_bases(tx, name)}

    recorded, forgotten = await opened.read(read_mirrors)

    async def open_mirror(mirror: MirrorConfig) -> SearchedMirror | None:
        target = await stack.enter_async_context(opened.target(mirror))
        # A service's base exists before we upload anything to it, and other people's documents aren't hits
        # (promise 6). If the state was lost, the documents that kbsync indexed itself are still ours; and
        # some machines only search.
        is_there = mirror.name in recorded or mirror.target.searches_all
        if not is_there and not (target.limits.embedded and (await target.base()).documents):
            return None
        return SearchedMirror(mirror.name, mirror.folder, target, opened.read)

    chosen = [mirror for mirror in mirrors if mirror.name not in forgotten]
    outcomes = await gather(*(_attempt(open_mirror(mirror)) for mirror in chosen))
    errors, searched = dict[str, Exception](), list[SearchedMirror]()
    for mirror, outcome in zip(chosen, outcomes, strict=True):
        if isinstance(outcome, Exception):
            errors[mirror.name] = outcome
        elif outcome is not None:
            searched.append(outcome)
    return searched, errors


async def _attempt(work: Awaitable[T]) -> T | KbsyncError | OSError:
    """Return the result of `work`, or the error if a user can cause it. Raise any other error."""
    try:
        return await work
    except (KbsyncError, OSError) as error:
        return error


async def _find(
    opened: OpenMirrors, mirrors: Sequence[MirrorConfig], query: Query, *, images: bool, soon: bool
) -> tuple[Sequence[FoundDocument], dict[str, Exception], list[str], list[UnknownWords], list[Note]]:
    """Run the searches.

    Return the hits, the errors of mirrors that couldn't be searched, the mirrors that responded, the query
    words missing from each target ([] if any target can't report them), and the parts of the query that
    services don't support.
    """
    async with AsyncExitStack() as stack:
        searched, errors = await open_all(opened, mirrors, stack)
        for mirror in searched:
            if query.rerank and not mirror.target.reranks:
                raise UsageError(
                    f"--rerank: mirror {mirror.name} has no ranking model; configure a ranking service in "
                    "target.rerank, or omit --rerank"
                )
        # An absolute pattern is compared with the folders' real paths.
        planned = await in_mirror_threads("", in_thread(searches, searched, query))
        run = search_soon if soon else search_mirrors
        running = (
            _attempt(in_mirror_threads(group[0].name, run(group, its_query))) for group, its_query in planned
        )
        results = await gather(*running)
        documents, answered = list[tuple[SearchedMirror, list[FoundDocument]]](), list[str]()
        unknown = list[UnknownWords | None]()
        for (group, _), result in zip(planned, results, strict=True):
            names = [mirror.name for mirror in group]
            if isinstance(result, Exception):
                errors |= dict.fromkeys(names, result)
            else:
                its_documents, its_unknown = result
                documents.append((group[0], its_documents))
                unknown.append(its_unknown)
                answered += names
        best = merge(documents, query)
        if images:
            best = await with_images(best, searched)
        known = [words for words in unknown if words is not None]
        text = 'this service doesn\'t support "phrases" or -words; searched for the other words'
        notes = [
            Note(printable(f"{mirror.name}: {text}"), explains_hits=True)
            for mirror in searched
            if (query.phrases or query.excluded) and not mirror.target.limits.embedded
        ]
        return best, errors, answered, known if len(known) == len(unknown) else [], notes


def _with_state(tx: Tx, hit: FoundDocument, as_of: Mapping[str, float | None]) -> FoundDocument:
    """Return the hit with the state of its file."""
    record = None if hit.is_foreign else tx.mirrors.named(hit.mirror)
    row = None if record is None else tx.entries.get(record.id, hit.path)
    known_at = None if hit.is_foreign else as_of.get(hit.mirror)
    if record is None or row is None:
        return replace(hit, known_at=known_at)
    state, reason = found_state(tx, record, row, hit.hit.remote_id)
    is_gone = row.presence is Presence.GONE
    return replace(hit, known_at=known_at, state=state, reason=reason, is_gone=is_gone)


# -- JSON ----------------------------------------------------------------------------------


def hit_json(hit: FoundDocument, *, explain: bool = False) -> dict[str, Any]:
    """Return a hit as JSON. The format is the same for every program.

    `explain`: whether to include the field `why`.
    """
    passages = [
        {
            "text": passage.text,
            "headings": list(passage.headings),
            "page": passage.page,
            "line": passage.line,
            "score": round(passage.score, 6),
            **images_json(passage.images),
        }
        for passage in hit.hit.passages
    ]
    best = passages[0] if passages else {"text": "", "headings": [], "page": None}
    return {
        "path": hit.path,
        "abs_path": str(hit.absolute),
        "document_id": hit.hit.remote_id,
        "score": round(hit.hit.score, 6),
        "text": best["text"],
        "title": hit.hit.title,
        "headings": best["headings"],
        "page": best["page"],
        "mirror": hit.mirror,
        "host": hit.host,
        "here": hit.is_here,
        "modified": iso_time(hit.hit.modified),
        "as_of": iso_time(hit.as_of),
        "state": None if hit.state is None else hit.state.word,
        "reason": hit.reason,
        **({"images": best["images"]} if "images" in best else {}),
        **({"why": _why_json(hit)} if explain else {}),
        "passages": passages,
    }


def _why_json(hit: FoundDocument) -> dict[str, Any]:
    lines, reasons = why_lines(hit), hit.hit.reasons
    if reasons is None:
        return {"lines": lines}
    return {
        "lines": lines,
        "score": round(reasons.score, 6),
        "words": round(reasons.words, 6),
        "meaning": round(reasons.meaning, 6),
        "together": round(reasons.together, 6),
        "further": round(reasons.further, 6),
        "cosine": None if reasons.cosine is None else round(reasons.cosine, 6),
        "in_text": _words_json(reasons.in_text),
        "in_name": _words_json(reasons.in_name),
        "translated": reasons.is_translated,
        "named": reasons.is_named,
        "size_weight": round(reasons.size_weight, 6),
        "ranked": None if reasons.ranked is None else round(reasons.ranked, 6),
    }


def _words_json(words: Sequence[MatchedWord]) -> list[dict[str, Any]]:
    return [
        {"word": word.word, "written": word.written or word.word, "points": round(word.points, 6)}
        for word in words
    ]


_MAX_WORDS = 8
"""Maximum number of words in a line of text output."""


def why_lines(hit: FoundDocument) -> list[str]:
    """Explain why a search found a document, in one or two lines of text."""
    reasons = hit.hit.reasons
    if reasons is None:
        return [f"score {hit.hit.score:.2f} (the service doesn't explain its scores)"]
    names = [
        part for part in (_words_in(reasons.in_text), _words_in(reasons.in_name, "in the name: ")) if part
    ]
    translated = " of the translation" * reasons.is_translated
    words = f"words{translated} {reasons.words:.2f}: {'; '.join(names)}" if names else "none of the words"
    meaning = "meaning not compared" if reasons.cosine is None else f"meaning {reasons.meaning:.2f}"
    together = f" · together {reasons.together:.2f}" if reasons.together > _VISIBLE else ""
    if abs(reasons.further) > _VISIBLE:
        together += f" · other passages {reasons.further:+.2f}"
    others = list[str]()
    if reasons.is_named:
        others.append("the question is this document's file name: +3")
    if reasons.size_weight < 1:
        others.append(f"one of {reasons.size:,} passages: × {reasons.size_weight:.2f}")
    if reasons.ranked is not None:
        others.append(f"the ranking model changed the score from {reasons.score:.2f}")
    return [f"{words} · {meaning}{together}", *([" · ".join(others)] if others else [])]


_VISIBLE = 0.005


def _words_in(words: Sequence[MatchedWord], before: str = "") -> str:
    """Return the words with the most weight, each followed by its written form if it has one. Return "" if
    there are no words.
    """
    listed = [f"{word.word} → {word.written}" if word.written else word.word for word in words[:_MAX_WORDS]]
    more = len(words) - len(listed)
    return before * bool(words) + printable(", ".join(listed)) + f" and {more} more" * bool(more)


def images_json(images: Sequence[Image]) -> dict[str, Any]:
    """Return a dict with the field `images`, or an empty one if there are no images."""
    listed = [{"placeholder": image.placeholder, "url": image.url} for image in images]
    return {"images": listed} if listed else {}


def shortened(
    hit: FoundDocument, longest: int, *, passages: int | None = None, plain: bool = False
) -> FoundDocument:
    """Return the hit with shorter passages, limited to the best `passages`. `plain`: remove the markup."""

    def shorten(passage: Passage) -> Passage:
        text, headings = passage.text, passage.headings
        if plain:
            text = without_markup(text, hit.path, [hit.hit.title or "", *headings])
            headings = tuple(plain_heading(heading, hit.path) for heading in headings)
        return replace(passage, text=text[:longest], headings=headings)

    return replace(hit, hit=replace(hit.hit, passages=tuple(map(shorten, hit.hit.passages[:passages]))))


_SPOKEN = re.compile(r"[^\W_]+")
_FIRST_WORDS, _FEW_WORDS = 12, 5
"""Number of words at the start of a passage to look for in a document; the start is enough to find it."""


def find_passage(passage: str, text: str) -> tuple[int, int] | None:
    """Return the start and end of a passage in the text of its document, or None.

    Only the words and their order matter, because a passage may be shown without its markup.
    """
    words = _SPOKEN.findall(passage)[:100]
    # Between the other words there may be a link's address, which the shown passage lacks.
    few = (words[at : at + _FEW_WORDS] for at in range(0, len(words), _FEW_WORDS))
    for row in (words[:_FIRST_WORDS], *few) if words else ():
        first = re.search(_in_a_row(row), text)
        if first is None:
            continue
        # With markup, the passage is longer than as shown.
        stretch = text[first.start() : first.start() + 2 * len(passage) + 200]
        last = re.search(_in_a_row(words[-_FEW_WORDS:]), stretch)
        return first.start(), first.start() + (len(passage) if last is None else last.end())
    start = text.find(passage) if passage and not words else -1
    return None if start < 0 else (start, start + len(passage))


def _in_a_row(words: Sequence[str]) -> str:
    return r"[\W_]+".join(map(re.escape, words))


def iso_time(seconds: float | None) -> str | None:
    """Return the time as ISO 8601 in UTC, or None if there is no time or it is outside the calendar's
    range.
    """
    try:
        return None if seconds is None else iso(seconds)
    except (ValueError, OverflowError, OSError):
        return None
