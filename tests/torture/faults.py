"""Everything that can go wrong on the way to a service, on each operation: alone, in pairs, with crashes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tests.remote.faults import FaultyMirror, Trial, overcome, overcome_both, overcome_with
from tests.torture import trials_gptbots, trials_zhipu
from tests.torture.exercise import Exercise, Tally

ROUND = 20
"""Trials in one round."""


TRIALS: Mapping[str, Sequence[Trial]] = {
    "zhipu": trials_zhipu.trials(),
    "gptbots": trials_gptbots.trials(),
}
"""What each service is put through."""

Play = Callable[[str, Path, random.Random], Awaitable[Tally]]


def _tally(one: FaultyMirror, faults: int, crashes: int = 0) -> Tally:
    return Tally(faults=faults, crashes=crashes, steps=one.world.asked())


async def alone(at: str, place: Path, chance: random.Random) -> Tally:
    """One fault, once or several times."""
    trial = chance.choice(TRIALS[at])
    return _tally(await told(trial, overcome(at, place, trial)), 1)


async def paired(at: str, place: Path, chance: random.Random) -> Tally:
    """Two at once, each up to three times."""
    first, second = (replace(one, times=chance.choice((1, 1, 2, 3))) for one in pair(at, chance))
    playing = overcome_both(at, place, first, second)
    return _tally(await told((first, second), playing), first.times + second.times)


def pair(at: str, chance: random.Random) -> tuple[Trial, Trial]:
    """Two that can come together: where the state was lost only one of them may be about that."""
    first, second = chance.sample(TRIALS[at], 2)
    while second.op == "file" and first.op != "file":
        second = chance.choice(TRIALS[at])
    return first, second


def calamity(chance: random.Random) -> tuple[str, Callable[[FaultyMirror], Awaitable[object]]]:
    """Something that happens to the client itself, and its name."""
    number = chance.randint(1, 90)
    match chance.choice(("killed", "killed", "killed twice", "disk full", "two clients")):
        case "killed twice":

            async def twice(one: FaultyMirror) -> None:
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


async def struck(at: str, place: Path, chance: random.Random) -> Tally:
    """A fault, and something that happens to the client."""
    trial, (name, blow) = chance.choice(TRIALS[at]), calamity(chance)
    return _tally(await told((trial, name), overcome_with(at, place, trial, blow)), 1, crashes=1)


async def told(what: object, trying: Awaitable[FaultyMirror]) -> FaultyMirror:
    """A failure names its trial."""
    try:
        return await trying
    except AssertionError as error:
        shown = " and ".join(map(str, what)) if isinstance(what, tuple) else str(what)
        raise AssertionError(f"{shown}: {error}") from error


def exercise(at: str, play: Play) -> Exercise:
    """A round of it: twenty trials, each in a world of its own."""

    def round_of(seed: int, place: Path) -> Tally:
        chance, tally = random.Random(seed), Tally()
        for number in range(ROUND):
            tally.add(asyncio.run(play(at, place / str(number), chance)))
        return tally

    return round_of


EXERCISES: dict[str, Exercise] = {
    "faults": exercise("zhipu", alone),
    "fault-pairs": exercise("zhipu", paired),
    "fault-crashes": exercise("zhipu", struck),
    "gptbots-faults": exercise("gptbots", alone),
    "gptbots-pairs": exercise("gptbots", paired),
    "gptbots-crashes": exercise("gptbots", struck),
}
