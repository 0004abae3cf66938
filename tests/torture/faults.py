"""Everything that can go wrong on the way to a service, on each operation: alone, in pairs, with crashes."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.remote.ordeal import Ordeal, Trial, stand, stand_pair, stand_with
from tests.torture.exercise import Exercise, Tally

Args = Mapping[str, Any]

OPS = ("upload", "detail", "list", "delete", "reembed", "base", "capacity", "retrieve", "file")
API = tuple(op for op in OPS if op != "file")
"""All but the host of the files, which speaks no JSON."""

CHANGES = ("upload", "delete", "reembed")
FORMS = ("404", "code", "null")
BASE = "/api/llm-application/open/knowledge/1734786402936664064"


def each(kinds: Mapping[str, Args], ops: Iterable[str], **more: Any) -> Iterator[Trial]:
    """Every kind on every operation; where it changes something, with the change done and not done."""
    for (kind, args), op in itertools.product(kinds.items(), ops):
        for effect in (True, False) if op in CHANGES else (True,):
            yield Trial(kind, op, args, effect, **more)


def forms(kind: str, op: str, args: Iterable[Args], **more: Any) -> Iterator[Trial]:
    """One kind on one operation with each of `args`."""
    for one in args:
        yield Trial(kind, op, one, **more)


def on_the_way() -> Iterator[Trial]:
    """1, 4, 5, 6, 24, 30: connections and bodies."""
    lost = ("lost-answer", "cut-headers", "cut-body", "reset-reading", "hang", "headers-then-silence")
    bodies = ("truncated-json", "empty", "html", "bom", "wrong-type", "gzip", "no-date")
    ends = ("http10", "connection-close", "keepalive-close")
    yield from each({kind: {} for kind in (*lost, *ends)}, OPS)
    yield from each({kind: {} for kind in bodies}, API)
    yield from each({"drip": {"every": 0.2}, "late-answer": {"seconds": 1.0}}, OPS)
    yield from each({"very-large-body": {"bytes": 40_000_000}}, API)
    for op in OPS:
        for kind in ("close-before", "reset-connect", "reset-sending"):
            yield Trial(kind, op, effect=False)
        yield Trial("keepalive-close", op, {"on_next": True})
    yield from forms("slow-reading", "upload", ({"bytes_per_second": 1000}, {"bytes_per_second": 8000}))
    for op, args in itertools.product(CHANGES, ({"after": 20}, {"after": 20, "hang": True}, {"after": 100})):
        yield Trial("late-effect", op, args)


def statuses() -> Iterator[Trial]:
    """2, 3, 11, 13, 14: what HTTP itself says."""
    for status in (500, 502, 503, 504):
        yield from each({"status": {"status": status}}, OPS)
    for status, op in itertools.product((408, 425), OPS):
        yield Trial("status", op, {"status": status}, effect=False)
    wishes = (5, 0, "date", "huge", "soon", "-5", "Wed, 21 Oct 2015 07:28:00 GMT")
    for op in API:
        yield Trial("rate-limited", op)
        yield Trial("status", op, {"status": 429}, effect=False)
        yield from forms("rate-limited", op, ({"code": code} for code in (1303, 1113, 1304, 1308)))
    for op, wish in itertools.product(("upload", "list", "delete"), wishes):
        yield Trial("rate-limited", op, {"retry_after": wish})
    for status in (400, 411, 413, 415, 422, 435):
        yield Trial("status", "upload", {"status": status}, effect=False, told=True)
    for status, op in itertools.product((404, 405, 501), OPS):
        yield Trial("status", op, {"status": status}, effect=False, told=op == "upload")


def refusals() -> Iterator[Trial]:
    """12, 23: the key, the account and the base go away in mid-run, and come back."""
    for op, times in itertools.product(API, (1, 3)):
        yield Trial("unauthorized", op, {"code": 1000 + times}, times=times)
        yield Trial("no-right", op, {"status": 434 if times == 1 else 403}, times=times)
        yield from forms(
            "base-gone", op, ({"form": form} for form in FORMS), times=times, told=op == "upload"
        )


def codes() -> Iterator[Trial]:
    """7, 8, 31: what the body says, whatever HTTP says."""
    unsure, busy = (500, 1200, 1230, 1231, 1234), (1120, 1302, 1303, 1305, 1312)
    for code, op in itertools.product((*unsure, *busy, 1113), API):
        yield Trial("code-in-200", op, {"code": code}, effect=code in unsure)
    for op in API:
        good = ({"code": 200, "as_string": True}, {"missing": True})
        yield from forms("code-in-200", op, good)
        yield Trial("code-in-200", op, {"code": 400, "as_string": True}, effect=False, told=op == "upload")
        shapes = ("flat", "error-object", "error-int", "no-message", "detail-list", "typed", "string")
        yield from forms("error-shapes", op, ({"shape": shape} for shape in shapes))
        yield from forms("envelope", op, ({"missing": ["timestamp", "message"]}, {"set": {"more": [{}]}}))
        yield from forms("envelope", op, ({"set": {"timestamp": at}} for at in (0, 1e14, "now", None)))
        yield from forms("envelope", op, ({"missing": ["data"]}, {"set": {"data": None}}))


def uploads() -> Iterator[Trial]:
    """9, 15, 16, 17: what an upload's answer names, and what becomes of the document."""
    yield from forms("failed-info", "upload", ({"reason": "服务器繁忙，请稍后再试"}, {"reason": "空间不足"}))
    yield from forms("failed-info", "upload", ({}, {"reason": "解析失败"}, {"reason": ""}), told=True)
    for kind in ("both-lists", "neither-list", "success-null"):
        yield from (Trial(kind, "upload", effect=effect) for effect in (True, False))
    names = ("nfc", "nfd", "basename", "suffixed", "question_marks", "mojibake")
    yield from forms("other-name", "upload", ({"form": form} for form in names))
    yield from forms("other-name", "upload", ({"answer": "else.md"}, {"answer": ""}))
    yield from forms("unlisted", "upload", ({"seconds": 8}, {"seconds": 30}))
    yield from forms("detail-missing", "upload", ({"seconds": 30, "form": form} for form in FORMS))
    yield from forms("polls", "upload", ({"n": 1}, {"n": 9}))
    full = ({"text": "知识不可用，知识库空间已满"}, {"code": 10002, "text": "字数超出限制"})
    yield from forms("fails", "upload", ({**text, "runs": runs} for text in full for runs in (1, 2)))
    yield from forms(
        "fails", "upload", ({"text": "知识不可用，文档损坏", "runs": runs} for runs in (1, 2, 0))
    )
    yield from forms("fails", "upload", ({"runs": 1, "silent": True}, {"runs": 0, "silent": True}))
    stale = {"stale_stat": 20.0, "keeps_fail_info": True}
    yield from forms("fails", "upload", ({"runs": 1}, {"runs": 2}), under=stale)
    yield from forms("stuck", "upload", ({}, {"searchable": True}))
    yield from forms("relapse", "upload", ({"after": 2, "back": 3}, {"after": 30, "back": 60}))
    yield Trial("fails-later", "upload", {"after": 300})
    for op in ("upload", "detail", "list"):
        odd: list[Args] = [{"value": value} for value in ("1", 1.0, True, None, 3, 99, -1, [], {})]
        yield from forms("stat", op, ({**one, "seconds": 20} for one in (*odd, {"missing": True})))
        infos: list[Any] = [
            {"embedding_code": 0, "embedding_msg": ""},
            {"embedding_code": 10001},
            "x",
            [],
            None,
        ]
        yield from forms("fail-info", op, ({"value": info, "seconds": 20} for info in infos))


def lists() -> Iterator[Trial]:
    """17, 18, 22: lists and details that lag, lie or lack fields."""
    for under in ({}, {"page_cap": 2}, {"page_cap": 2, "page_beyond": "repeats"}, {"unstable_pages": True}):
        yield from forms("duplicates", "list", ({"n": 1}, {"n": 2}), under=under)
        yield from forms("list-null", "list", ({"form": "null"}, {"form": "missing"}), under=under)
        yield from forms(
            "total", "list", ({"value": value} for value in (1000, 0, 1, "5", "", None, -1)), under=under
        )
        yield Trial("total", "list", {"missing": True}, under=under)
        yield Trial("left-out", "list", under=under)
    optional = (
        "length",
        "word_num",
        "knowledge_type",
        "custom_separator",
        "parse_image",
        "url",
        "name",
        "id",
    )
    for op, name in itertools.product(("detail", "list"), optional):
        yield from forms("fields", op, ({"missing": [name]}, {"set": {name: None}}, {"set": {name: {}}}))
    yield from forms(
        "fields", "list", ({"set": {"sentence_size": value}} for value in ("300", 300, None, []))
    )
    yield from forms("detail-missing", "detail", ({"form": form} for form in FORMS))


def deletes() -> Iterator[Trial]:
    """17, 25: deletions that lie."""
    yield Trial("keeps-document", "delete")
    yield from forms("delete-unknown", "delete", ({"form": form} for form in (*FORMS, "ok")))
    yield from forms("still-listed", "delete", ({"seconds": 40}, {"seconds": 400}))


def searches() -> Iterator[Trial]:
    """27: a search that does not find what is there."""
    for kind in ("retrieve-empty", "retrieve-null", "retrieve-no-scores", "retrieve-no-metadata"):
        yield Trial(kind, "retrieve")
    yield Trial("retrieve-deleted", "retrieve", {"id": "1999999999999999999"})


def addresses() -> Iterator[Trial]:
    """21, 29: signed addresses that are no good, redirections."""
    unread = {"scene": "file", "twins": True}
    yield from forms(
        "url", "detail", ({"form": form} for form in ("missing", "null", "expired", "wrong")), **unread
    )
    yield from forms(
        "url", "detail", ({"to": to} for to in ("http://127.0.0.1:1/x", "file:///etc/passwd", "x")), **unread
    )
    for status, op in itertools.product((301, 302, 303, 307, 308), OPS):
        for effect in (True, False) if op in CHANGES else (True,):
            yield Trial("redirect", op, {"status": status, "to": "http://127.0.0.1:1/"}, effect)
    yield Trial("redirect", "base", {"status": 307, "to": f"HERE{BASE}"})


def trials() -> list[Trial]:
    """All of them, in an order that does not change."""
    tables = (on_the_way, statuses, refusals, codes, uploads, lists, deletes, searches, addresses)
    return [trial for table in tables for trial in table()]


# -- exercises ---------------------------------------------------------------------------------------------

ROUND = 20
"""Trials in one round."""

Play = Callable[[Path, random.Random], Awaitable[Tally]]


def _tally(one: Ordeal, faults: int, crashes: int = 0) -> Tally:
    return Tally(faults=faults, crashes=crashes, steps=one.world.asked())


async def alone(place: Path, chance: random.Random) -> Tally:
    """One fault, once or several times."""
    trial = chance.choice(TRIALS)
    return _tally(await told(trial, stand(place, trial)), 1)


async def paired(place: Path, chance: random.Random) -> Tally:
    """Two at once, each up to three times."""
    first, second = (replace(one, times=chance.choice((1, 1, 2, 3))) for one in pair(chance))
    return _tally(await told((first, second), stand_pair(place, first, second)), first.times + second.times)


def pair(chance: random.Random) -> tuple[Trial, Trial]:
    """Two that can come together: where the state was lost only one of them may be about that."""
    first, second = chance.sample(TRIALS, 2)
    while second.op == "file" and first.op != "file":
        second = chance.choice(TRIALS)
    return first, second


def calamity(chance: random.Random) -> tuple[str, Callable[[Ordeal], Awaitable[object]]]:
    """Something that happens to the client itself, and its name."""
    number = chance.randint(1, 90)
    match chance.choice(("killed", "killed", "killed twice", "disk full", "two clients")):
        case "killed twice":

            async def twice(one: Ordeal) -> None:
                await one.crash(number)
                await one.crash(number // 2 + 1)

            return f"killed twice at {number}", twice
        case "disk full":
            many = chance.choice((1, 3, 20))
            return f"{many} commits on a full disk from {number}", lambda one: one.fill_disk(
                number // 2 + 1, many
            )
        case "two clients":
            return f"two clients, one stopped at {number}", lambda one: one.meet_rival(number)
        case _:
            return f"killed at {number}", lambda one: one.crash(number)


async def struck(place: Path, chance: random.Random) -> Tally:
    """A fault, and something that happens to the client."""
    trial, (name, blow) = chance.choice(TRIALS), calamity(chance)
    return _tally(await told((trial, name), stand_with(place, trial, blow)), 1, crashes=1)


async def told(what: object, trying: Awaitable[Ordeal]) -> Ordeal:
    """A failure names its trial."""
    try:
        return await trying
    except AssertionError as error:
        shown = " and ".join(map(str, what)) if isinstance(what, tuple) else str(what)
        raise AssertionError(f"{shown}: {error}") from error


def exercise(play: Play) -> Exercise:
    """A round of it: twenty trials, each in a world of its own."""

    def round_of(seed: int, place: Path) -> Tally:
        chance, tally = random.Random(seed), Tally()
        for number in range(ROUND):
            tally.add(asyncio.run(play(place / str(number), chance)))
        return tally

    return round_of


TRIALS = trials()

EXERCISES: dict[str, Exercise] = {
    "faults": exercise(alone),
    "fault-pairs": exercise(paired),
    "fault-crashes": exercise(struck),
}
