"""Combines the scores of words and vectors for each chunk, and groups chunks into documents.

A chunk's score is half the sum of its lexical and semantic score and, for the best documents, the share of
the question in one sentence. Lexical is its BM25 score plus the idf of the terms in its document's name,
divided by the sum of the idf of the question's terms: near 1 if the chunk has all of them about once, near 0
if it has only common ones. Semantic is the cosine. Neither is scaled to the question's candidates: if the
question's words occur nowhere, only the meaning decides, and a best match that is poor keeps its low score.

docs/internals/adr/0009-scores-are-added-not-ranks.md has the measurements.

A rerank service may reorder the best chunks. If a service doesn't respond, the search works without it and
adds a note.
"""

from __future__ import annotations

import logging
import math
import re
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Protocol
from unicodedata import normalize

from kbsync.contract.searching import Hit, Passage, Query, Reasons, UnknownWords
from kbsync.core.text import printable
from kbsync.dataclass import dataclass
from kbsync.errors import TargetError, describe_with_fix
from kbsync.index.chunk import sentences
from kbsync.index.codes import (
    code_test,
    codes_in,
    exact_tokens,
    hyphenation_variants,
    joined_in,
    other_spellings,
)
from kbsync.index.dates import whole_dates
from kbsync.index.embed import Encoder
from kbsync.index.file_names import whole_name_test
from kbsync.index.glossary import Glossary
from kbsync.index.read.formats import is_picture
from kbsync.index.spelling import Unknown, variants_in
from kbsync.index.store import (
    BetterQuestion,
    CandidateChunk,
    MatchedTerms,
    Store,
    StoredPassage,
    StoreSnapshot,
    few_of_each,
)
from kbsync.index.weights import (
    DEPTH,
    FURTHER,
    PASSAGES,
    READ_DOCUMENTS,
    TRANSLATED,
    USUAL,
    code_points,
    share_together,
)
from kbsync.index.words import (
    HYPHEN_MARK,
    Term,
    Tokeniser,
    comparable,
    forms_in,
    has_cjk,
    is_vietnamese,
    naming_text,
    number_forms_in,
    readable,
    stemmed,
    terms_of,
    word_with,
    written_terms,
)

if TYPE_CHECKING:
    from kbsync.index.better import BetterModel
    from kbsync.index.embed import Vector

_WORD = re.compile(r"[^\W_]+")

_log = logging.getLogger(__name__)

_NEAR = 0.6  # minimum score of a further passage, as a share of the best one's
_FAR = 0.2  # share of the best score: an exact rare word excludes chunks that are only similar


class Ranker(Protocol):
    """Ranks texts by how well they answer a question. It is supplied by the code that opens the index."""

    @property
    def most_texts(self) -> int:
        """Maximum number of texts in one request."""

    def order(self, question: str, texts: Sequence[str]) -> list[tuple[int, float]]:
        """Return (index, score) for every text, best first. Raises `TargetError`."""


_FIRST_DEPTH, _GROWTH = 50, 5
"""The number of documents whose candidates are fetched first, and the factor by which that number grows in
each further round."""


def _depths(top_k: int) -> Iterator[int]:
    """Yield the number of documents for which to fetch candidates. It grows with each round, up to at
    least `top_k`.

    The candidates depend on this number. Nearly all searches use the same number, because otherwise the
    pages of a result wouldn't be consistent.
    """
    depth = _FIRST_DEPTH
    while depth < top_k:
        yield depth
        depth *= _GROWTH
    yield depth


def spread(order: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the items in the same order, with scores scaled to between 0 and 1.

    Services return probabilities, or logits of any sign.
    """
    if all(0 <= score <= 1 for _, score in order):
        return [(index, max(score, 1e-6)) for index, score in order]
    return [(index, 1 / (1 + math.exp(-max(-13.0, min(36.0, score))))) for index, score in order]


def with_unranked(order: Sequence[tuple[int, float]], positions: Sequence[int]) -> list[tuple[int, float]]:
    """Return (position, score) for the ranked candidates at `positions`, merged with the other candidates.

    The others keep their places. The result ends with the last of `positions`. A candidate that wasn't sent
    to the service has the score of the one before it or, if it comes first, the best score.
    """
    ranked_at = {
        position: (positions[index], score) for position, (index, score) in zip(positions, order, strict=True)
    }
    merged, before = list[tuple[int, float]](), order[0][1]
    for position in range(positions[-1] + 1):
        merged.append(ranked_at.get(position, (position, before)))
        before = merged[-1][1]
    return merged


def behind(scores: Sequence[float], lowest: float) -> list[float]:
    """Scale the scores so that they are below `lowest` and keep their order."""
    best = max(scores, default=1.0) or 1.0
    return [0.999 * lowest * score / best for score in scores]


@dataclass(frozen=True, slots=True)
class _Scored:
    """A chunk with its score."""

    chunk: int
    document: int
    score: float
    candidate: CandidateChunk


@dataclass(frozen=True, slots=True)
class _Question:
    """A question whose hits are to be explained, with its translation and its unknown words."""

    text: str
    translation: str
    unknown: Sequence[Unknown]
    is_reranked: bool


class Search:
    """Answers questions from a store."""

    def __init__(
        self,
        store: Store,
        encoder: Encoder,
        ranker: Ranker | None = None,
        glossary: Glossary | None = None,
        better: BetterModel | None = None,
    ) -> None:
        """Set up the search.

        `better`: computes a question's vector for passages that also have a vector from that model.
        """
        self._store, self._encoder, self._ranker, self._glossary = store, encoder, ranker, glossary
        self._better = better
        self._has_vectors = self._has_better = False  # checked until some exist
        self._last_translation = "", ""

    def search(self, query: Query) -> list[Hit]:
        """Return the best documents first, and never more than `top_k`."""
        text = readable(query.text)
        if not text or query.top_k < 1:
            return []
        # Query services between snapshots: an open snapshot keeps deleted text in the WAL (promise 11).
        if not self._has_vectors:
            with self._store.snapshot() as snapshot:
                self._has_vectors = snapshot.has_vectors(self._encoder.model)
        vector = self._vector(text)
        better = self._better_question(text)
        translation = self._translate(text)
        other_vector, other_better = vector, better
        if translation and has_cjk(text):
            # For an English question, the vector of its Chinese words adds nothing to its own.
            other_vector = self._vector(translation)
            if other_vector is not None:  # shortened, so that its cosines count less
                other_vector = array("f", (TRANSLATED * number for number in other_vector.tolist()))
            # The better model knows both languages, so it compares the question itself.
            other_better = better and replace(better, other_factor=TRANSLATED)
        terms, code_shares = terms_of(text, unfinished=query.unfinished), _code_shares(text)
        compares_accents = is_vietnamese(text)
        with self._store.snapshot() as snapshot:
            snapshot.start(self._encoder.model, vector, better)
            unknown = [term for term in _unknown(snapshot, terms, text) if term.stem]
            corrections = [term for term in unknown if not term.goes_on]
            guesses = {term.stem: word_with(term.stem, term.written) for term in corrections}
            query = replace(query, phrases=tuple(_corrected(phrase, corrections) for phrase in query.phrases))
            stems = {term.stem for term in terms}
            variants = variants_in(term.surface for term in terms) | hyphenation_variants(text)
            guesses |= {stem: word for stem, word in variants.items() if stem not in stems}
            beginnings = {
                term.word: Term(term.stem, term.stem, goes_on=True) for term in unknown if term.goes_on
            }
            terms = [beginnings.get(term.surface, term) for term in terms]
            terms += (Term(word, stem, is_guess=True) for stem, word in guesses.items())
            model, least = self._encoder.model, self._encoder.least_cosine
            if least is None:
                least = 0.0 if vector is None else snapshot.estimate_least_cosine(model)
            ranked = list[_Scored]()
            for depth in _depths(query.top_k):
                deep = replace(query, top_k=depth, explain=query.explain or compares_accents)
                candidates = snapshot.candidates(terms, model, vector, deep, least, better)
                if translation:
                    words = terms_of(translation)
                    others = snapshot.candidates(words, model, other_vector, deep, least, other_better)
                    candidates = _merged(candidates, others)
                if compares_accents:
                    candidates = _with_accents(snapshot, candidates, text)
                candidates = _with_codes(snapshot, candidates, code_shares)
                ranked = _extended(ranked, _ranked(candidates, least), depth // _GROWTH)
            scattered = _words_only_in(_unknown_codes(snapshot, text, unknown), text)
            ranked = _with_sentences(snapshot, ranked, text, code_shares, scattered)
            is_reranked = self._ranker is not None
            question = _Question(text, translation, unknown, is_reranked) if query.explain else None
            if self._ranker is None:
                return _hits(snapshot, ranked, query.top_k, question)
            passages = snapshot.passages(item.chunk for item in ranked)
        ranked = _reranked(self._ranker, text, ranked, passages)
        with self._store.snapshot() as snapshot:
            # A document may have been deleted or replaced since the first snapshot.
            current = snapshot.passages(item.chunk for item in ranked)
            ranked = [e for e in ranked if e.chunk in current and current[e.chunk].document == e.document]
            return _hits(snapshot, ranked, query.top_k, question)

    def _vector(self, text: str) -> Vector | None:
        """Return the question's vector, or None if a service fails or there are no vectors to compare it
        with.
        """
        if not self._has_vectors:
            return None
        try:
            return self._encoder.query(text)
        except TargetError as error:
            _log.warning("searched by words alone: %s", printable(describe_with_fix(error)))
            return None

    def _better_question(self, text: str) -> BetterQuestion | None:
        """Return the question's vector from the better model.

        Return None if the model fails, or if no passage has a vector from it.
        """
        if self._better is None:
            return None
        try:
            if not self._has_better:
                with self._store.snapshot() as snapshot:
                    self._has_better = snapshot.has_vectors(self._better.name)
            return self._better.question(text) if self._has_better else None
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            _log.warning("searching without the better vectors: %s", error)
            return None

    def _translate(self, text: str) -> str:
        """Translate a question, cleaned by `readable`, into the other language.

        Return "" if that isn't possible.
        """
        # A search calls this twice: to find the translated words, and to report them.
        question, translation = self._last_translation
        if question != text:
            translation = self._glossary.translate(text) if self._glossary else ""
            self._last_translation = text, translation
        return translation

    def unknown_words(self, query: Query) -> UnknownWords:
        """Return the words in the question that don't occur in any document, and the words that the search
        uses instead.
        """
        terms, text = terms_of(query.text), readable(query.text)
        with self._store.snapshot() as snapshot:
            unknown = [term for term in _unknown(snapshot, terms, text) if not term.is_stored_whole]
            if unknown and snapshot.has_phrase(text):  # a file's path, whose folders aren't indexed
                unknown = []
            codes = _unknown_codes(snapshot, text, unknown)
            has_code = len(codes) < len(exact_tokens(text))
            are_all = bool(terms) and len(unknown) == len(terms) and not has_code
            translation: tuple[str, ...] = ()
            if are_all:
                translated = self._translate(text)
                absent = {term.word for term in snapshot.unknown(terms_of(translated))}
                translation = tuple(
                    word
                    for word in dict.fromkeys(translated.split())
                    if not absent & {term.surface for term in stemmed(word)}
                )
        typed = {term.surface: written for term, written in written_terms(text)}
        parts = {term.surface for term in _words_only_in(codes, text)}
        plain, absent = comparable(text), {term.word for term in unknown}
        parts.update(form.lower() for _, _, form in number_forms_in(plain))  # nobody typed these
        for start, end, form in forms_in(plain):  # `8 GB` has the form `8gb`
            if form.lower() in absent:
                parts.update(term.surface for term in stemmed(plain[start:end]))
                parts.discard(form.lower())
                typed[form.lower()] = plain[start:end]
        words = (term for term in unknown if term.written or term.word not in parts)
        instead = {typed.get(term.word, term.word): term.written for term in words}
        return UnknownWords(instead | dict.fromkeys(codes, ""), are_all, translation, codes)


def _merged(
    candidates: Sequence[CandidateChunk], translated: Sequence[CandidateChunk]
) -> list[CandidateChunk]:
    """Merge the two lists of chunks. A chunk that is in both keeps its better score."""
    merged = {candidate.chunk: candidate for candidate in candidates}
    for candidate in translated:
        other = replace(candidate, words=TRANSLATED * candidate.words, is_named=False, is_translated=True)
        if other.chunk not in merged or other.score > merged[other.chunk].score:
            merged[other.chunk] = other
    return list(merged.values())


_ACCENTED = 50  # chunks to compare with the accents of a question


def _with_accents(
    snapshot: StoreSnapshot, candidates: Sequence[CandidateChunk], question: str
) -> Sequence[CandidateChunk]:
    """Recompute the word scores of the best chunks without words that have other accents than the question's,
    because in Vietnamese these are other words.

    How much rarer a word is with its accents is estimated from these chunks. A chunk without Vietnamese
    letters matches as if it had the question's accents.
    """
    sought = defaultdict[Term, set[str]](set)
    for term, word in written_terms(question):
        if not word.isascii():
            sought[term].add(_letters_of(word))
    matching = sorted((item for item in candidates if item.words > 0), key=lambda item: -item.words)
    matching = matching[:_ACCENTED]
    passages = snapshot.passages(item.chunk for item in matching)
    chunks = list[tuple[CandidateChunk, MatchedTerms, set[Term]]]()
    for item in matching:
        if item.matched is None:
            continue
        passage = passages[item.chunk]
        written = "\n".join([*passage.headings, passage.text])
        words = set(map(_letters_of, _WORD.findall(written)))
        is_plain = not is_vietnamese(written)
        lacking = {term for term, letters in sought.items() if not is_plain and words.isdisjoint(letters)}
        chunks.append((item, item.matched(), lacking))
    gains = dict[Term, float]()
    for term in sought:
        exact = [term not in lacking for _, matched, lacking in chunks if term in matched.text]
        gains[term] = math.log((len(exact) + 0.5) / (sum(exact) + 0.5))
    by_chunk = {item.chunk: item for item in candidates}
    for item, matched, lacking in chunks:
        text = {
            term: points * (1 + gains.get(term, 0.0) / item.idf[term])
            for term, points in matched.text.items()
            if term not in lacking
        }
        total = matched.total + sum(gains[term] for term in item.idf.keys() & gains.keys())
        score = item.words * matched.total + sum(text.values()) - sum(matched.text.values())
        changed = partial(MatchedTerms, text, matched.name, total)
        by_chunk[item.chunk] = replace(item, words=score / total, matched=changed)
    return list(by_chunk.values())


@lru_cache(10_000)
def _letters_of(word: str) -> str:
    """Return the letters and accents of a word, sorted: `hòa` and `hoà` are the same word."""
    return "".join(sorted(normalize("NFD", word.casefold())))


def _with_codes(
    snapshot: StoreSnapshot, candidates: Sequence[CandidateChunk], code_shares: Mapping[str, float]
) -> Sequence[CandidateChunk]:
    """Add points for the question's codes to the word scores of the chunks that contain them as written."""
    tests = {code: (code_test(code), share) for code, share in code_shares.items() if share}
    if not tests:
        return candidates
    best = sorted((item for item in candidates if item.words > 0), key=lambda item: -item.score)[:DEPTH]
    tested = {item.chunk: item for item in [*best, *(item for item in candidates if item.may_have_code)]}
    passages = snapshot.passages(tested)
    having = dict[int, CandidateChunk]()
    for item in tested.values():
        passage = passages[item.chunk]
        text = "\n".join([passage.title or "", *passage.headings, passage.text, passage.path])
        codes = {code: code_points(share) for code, (has_code, share) in tests.items() if has_code(text)}
        if codes:
            having[item.chunk] = replace(item, words=item.words + sum(codes.values()), codes=codes)
    return [having.get(item.chunk, item) for item in candidates]


def _code_shares(question: str) -> dict[str, float]:
    """Return the codes in the question, each with its share of the question's terms."""
    question_stems = {term.stem for term in terms_of(question)}
    return {
        code: len(question_stems.intersection(term.stem for term in stemmed(code))) / len(question_stems)
        for code in codes_in(question)
    }


def _unknown(snapshot: StoreSnapshot, terms: Sequence[Term], question: str) -> list[Unknown]:
    """Return the terms that no document contains, except those that documents have only with or only without
    a hyphen, or as part of a date in another notation.
    """
    variants, words = hyphenation_variants(question), {term.surface for term in terms}
    others = [Term(word, stem, is_guess=True) for stem, word in variants.items() if word not in words]
    unknown = snapshot.unknown([*terms, *others])
    absent = {term.word for term in unknown}
    known = {word.removeprefix(HYPHEN_MARK) for word in variants.values() if word not in absent}
    text = comparable(question)
    known.update(
        term.surface
        for start, end, date in whole_dates(text)
        if date not in absent
        for term in stemmed(text[start:end])
    )
    for start, end, form in joined_in(text):
        if known.issuperset(term.surface for term in stemmed(form.lower())):
            known.update(term.surface for term in stemmed(text[start:end]))
    for start, end, phrase in other_spellings(text):
        if phrase in known:
            known.update(term.surface for term in stemmed(text[start:end]))
    # `C#` isn't a misspelled `sharp`.
    forms = {form.lower() for _, _, form in forms_in(text)}
    unknown = [Unknown(term.word, "") if term.word in forms else term for term in unknown]
    return [term for term in unknown if term.word in words - known]


def _unknown_codes(snapshot: StoreSnapshot, question: str, unknown: Sequence[Unknown]) -> tuple[str, ...]:
    """Return the codes in the question that no document contains.

    A code isn't returned if a document contains it after its misspelled words are corrected, if a document
    contains the same date, number or code in a different notation, or if the question is the name of a file.
    """
    guessed, absent = [term for term in unknown if term.written], {term.word for term in unknown}
    text = comparable(question)
    forms = (item for item in forms_in(text) if " " not in item[2] or item[2][0].isdecimal())
    others = (*whole_dates(text), *forms)
    parts = [text[start:end] for start, end, form in others if absent.isdisjoint(form.lower().split())]
    parts += (text[start:end] for start, end, phrase in other_spellings(text) if snapshot.has_phrase(phrase))

    def spellings(code: str) -> dict[str, None]:
        joined = (form for _, _, form in joined_in(comparable(code)))
        return dict.fromkeys([code, _corrected(code, guessed), *joined])

    codes = tuple(
        code
        for code in exact_tokens(question)
        if (len(words := stemmed(code)) > 1 or words[0].surface in absent)
        and not any(comparable(code) in part for part in parts)
        and not any(map(snapshot.has_phrase, spellings(code)))
    )
    return () if codes and snapshot.has_phrase(question) else codes


def _words_only_in(codes: Sequence[str], question: str) -> set[Term]:
    """Return the words of these codes that don't occur anywhere else in the question."""
    for code in codes:
        question = question.replace(code, " ")
    return set(stemmed(" ".join(codes))).difference(stemmed(question))


def _with_sentences(
    snapshot: StoreSnapshot,
    ranked: Sequence[_Scored],
    question: str,
    code_shares: Mapping[str, float],
    scattered: Collection[Term],
) -> list[_Scored]:
    """Raise the scores of the best documents' chunks by the share of the question that is in one sentence.

    The name is treated as a sentence. If the question contains the whole file name, the name is treated as
    containing all of the question. A code that a chunk contains as written is credited to every sentence,
    because the parts of a code may be common words. `scattered`: the words of codes that no document
    contains.
    """
    scattered_stems = {term.stem for term in scattered}
    tokeniser, is_asked_for = Tokeniser(), whole_name_test(question)
    documents = set(islice(dict.fromkeys(item.document for item in ranked), READ_DOCUMENTS))
    of_best = (item.candidate for item in ranked if item.document in documents)
    best_chunks = {candidate.chunk for candidate in few_of_each(of_best)}
    best = [item for item in ranked if item.chunk in best_chunks]
    passages = snapshot.passages(item.chunk for item in best)

    def stems(text: str) -> frozenset[str]:
        return frozenset(tokeniser.words(text))

    def with_sentences(item: _Scored) -> _Scored:
        passage, candidate = passages[item.chunk], item.candidate
        name = stems(naming_text(passage.title, (), passage.path))
        if is_asked_for(passage.path):
            name |= {term.stem for term in candidate.idf}
        around = name.union(*map(stems, passage.headings))
        in_sentences = [name, *map(stems, sentences(passage.text))]
        together = share_together(candidate.idf, in_sentences, around, scattered_stems)
        together = min(1.0, together + sum(code_shares[code] for code in candidate.codes))
        together *= TRANSLATED if candidate.is_translated else 1.0
        candidate = replace(candidate, together=together)
        return replace(item, candidate=candidate, score=item.score + candidate.score - item.candidate.score)

    read = sorted(map(with_sentences, best), key=lambda item: (-item.score, item.chunk))
    least = next((item.score for item in ranked if item.document not in documents), 0.0)
    others = (item for item in ranked if item.chunk not in best_chunks)
    return [*_with_further(read, least), *others]


def _with_further(ranked: Sequence[_Scored], least: float) -> list[_Scored]:
    """Raise or lower the scores of each document's chunks by those of its second and third best chunk.

    A document about the subject of the question usually has several chunks about it. The score of a document
    with only one chunk stays the same. `least`: the score of the best other document, below which no document
    is lowered.
    """
    scores, sizes = defaultdict[int, list[float]](list), dict[int, int]()
    for item in ranked:
        scores[item.document].append(item.score)
        sizes.setdefault(item.document, item.candidate.size)

    def raised(item: _Scored) -> _Scored:
        best, *further = scores[item.document]
        existing = min(PASSAGES, max(sizes[item.document], 1 + len(further))) - 1
        difference = FURTHER * (sum(further) - existing * USUAL * best) / (PASSAGES - 1)
        difference = max(difference, min(0.0, least - best))
        return replace(
            item, candidate=replace(item.candidate, further=difference), score=item.score + difference
        )

    return sorted(map(raised, ranked), key=lambda item: (-item.score, item.chunk))


def _corrected(phrase: str, unknown: Sequence[Unknown]) -> str:
    """Correct a phrase: replace each word that no document contains with the word that was most likely
    meant.
    """
    instead = {term.word: term.written for term in unknown}
    return _WORD.sub(lambda match: instead.get(match[0].casefold(), match[0]), phrase)


def _ranked(candidates: Sequence[CandidateChunk], least: float) -> list[_Scored]:
    """Return the chunks sorted by score, best first, without those that are only slightly similar.

    `least`: the minimum cosine of a chunk that contains none of the words.
    """
    scored = list[tuple[_Scored, bool]]()
    for item in candidates:
        has_words = item.words > 0 or item.is_named
        if has_words or item.meaning >= least:
            scored.append((_Scored(item.chunk, item.document, item.score, item), has_words))
    scored.sort(key=lambda pair: (-pair[0].score, pair[0].chunk))
    return [item for item, has_words in scored if has_words or item.score >= _FAR * scored[0][0].score]


def _extended(ranked: Sequence[_Scored], further: Sequence[_Scored], count: int) -> list[_Scored]:
    """Return the chunks of the first `count` documents in `ranked`, then those of other documents in
    `further`.

    The scores of the `further` chunks are lowered so that none is higher than those before it.
    """
    best = dict[int, float]()
    for item in ranked:
        if item.document in best or len(best) < count:
            best.setdefault(item.document, item.score)
    if not best:
        return list(further)
    lowest = min(best.values())
    others = (item for item in further if item.document not in best)
    return [
        *(item for item in ranked if item.document in best),
        *(replace(item, score=min(item.score, lowest)) for item in others),
    ]


def _reranked(
    ranker: Ranker, question: str, ranked: list[_Scored], stored: Mapping[int, StoredPassage]
) -> list[_Scored]:
    """Return the best passages, in the order determined by the rerank service if it responds, followed by the
    passages that it didn't rank.

    Pictures keep their positions, because the service would see only their names.
    """
    positions = [index for index, item in enumerate(ranked) if not is_picture(stored[item.chunk].path)]
    positions = positions[: ranker.most_texts]
    if not positions:
        return ranked
    passages = [stored[ranked[index].chunk] for index in positions]
    try:
        order = spread(ranker.order(question, ["\n".join([*item.headings, item.text]) for item in passages]))
    except TargetError as error:
        _log.warning("hits are in kbsync's own order: %s", printable(describe_with_fix(error)))
        return ranked
    head, unranked = with_unranked(order, positions), ranked[positions[-1] + 1 :]
    lower = behind([item.score for item in unranked], head[-1][1])
    return [replace(ranked[index], score=score) for index, score in head] + [
        replace(item, score=score) for item, score in zip(unranked, lower, strict=True)
    ]


def _hits(
    snapshot: StoreSnapshot, ranked: Sequence[_Scored], top_k: int, question: _Question | None
) -> list[Hit]:
    """Return the documents that these chunks belong to, in the same order, best first."""
    groups = dict[int, list[_Scored]]()
    for item in ranked:
        if item.score > 0:
            groups.setdefault(item.document, []).append(item)
    best = {
        document: [item for item in group[:PASSAGES] if item.score >= _NEAR * group[0].score]
        for document, group in list(groups.items())[:top_k]
    }
    stored = snapshot.passages(item.chunk for group in best.values() for item in group)
    hits = list[Hit]()
    for document, group in best.items():
        first = stored[group[0].chunk]
        passages = tuple(
            Passage(passage.text, passage.headings, passage.page, passage.line, item.score)
            for item in group
            for passage in (stored[item.chunk],)
        )
        best_score = group[0].score
        reasons = None if question is None else _explain(group[0], first, question)
        hits.append(
            Hit(
                str(document),
                best_score,
                passages,
                first.path,
                first.title,
                first.modified,
                origin=first.origin,
                reasons=reasons,
            )
        )
    return hits


def _explain(item: _Scored, passage: StoredPassage, question: _Question) -> Reasons:
    from kbsync.index.reasons import reasons_for

    candidate = item.candidate
    text = question.translation if candidate.is_translated else question.text
    ranked = item.score if question.is_reranked and item.score != candidate.score else None
    return reasons_for(candidate, passage, text, question.unknown, ranked)
