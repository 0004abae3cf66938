"""Injects every fault of a connection to a service in each operation: alone, in pairs, with crashes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tests.remote.faults import Calamity, FaultyMirror, Trial, overcome
from tests.torture import (
    trials_dify,
    trials_gptbots,
    trials_lightrag,
    trials_openai,
    trials_openwebui,
    trials_ragflow,
    trials_zhipu,
)
from tests.torture.exercise import Exercise, Tally

ROUND = 20
"""The trials in one round."""


TRIALS: Mapping[str, Sequence[Trial]] = {
    "zhipu": trials_zhipu.trials(),
    "gptbots": trials_gptbots.trials(),
    "openwebui": trials_openwebui.trials(),
    "openai": trials_openai.trials(),
    "lightrag": trials_lightrag.trials(),
    "dify": trials_dify.trials(),
    "ragflow": trials_ragflow.trials(),
}
"""The trials of each service."""

Play = Callable[[str, Path, random.Random], Awaitable[Tally]]


def _tally(mirror: FaultyMirror, faults: int, crashes: int = 0) -> Tally:
    return Tally(faults=faults, crashes=crashes, steps=mirror.world.request_count())


async def alone(service: str, folder: Path, chance: random.Random) -> Tally:
    """Run one fault, once or several times."""
    return _tally(await overcome(service, folder, chance.choice(TRIALS[service])), 1)


async def paired(service: str, folder: Path, chance: random.Random) -> Tally:
    """Run two faults at once, each up to three times."""
    two = [replace(trial, times=chance.choice((1, 1, 2, 3))) for trial in pair(service, chance)]
    return _tally(await overcome(service, folder, *two), sum(trial.times for trial in two))


async def struck(service: str, folder: Path, chance: random.Random) -> Tally:
    """Run a fault together with a failure of the client."""
    mirror = await overcome(service, folder, chance.choice(TRIALS[service]), calamity=calamity(chance))
    return _tally(mirror, 1, crashes=1)


def pair(service: str, chance: random.Random) -> tuple[Trial, Trial]:
    """Return two trials that are compatible: only one may concern a lost state."""
    first, second = chance.sample(TRIALS[service], 2)
    while second.op == "file" and first.op != "file":
        second = chance.choice(TRIALS[service])
    return first, second


def calamity(chance: random.Random) -> Calamity:
    """Return a failure of the client itself."""
    number = chance.randint(1, 45)
    match chance.choice(("killed", "killed", "killed twice", "disk full", "two clients")):
        case "killed twice":

            async def twice(mirror: FaultyMirror) -> None:
                await mirror.crash(number)
                await mirror.crash(number // 2 + 1)

            return Calamity(f"killed twice at {number}", twice)
        case "disk full":
            first, many = number // 2 + 1, chance.choice((1, 3, 20))
            name = f"{many} commits on a full disk from {first}"
            return Calamity(name, lambda mirror: mirror.fill_disk(first, many))
        case "two clients":
            return Calamity(f"two clients, one stopped at {number}", lambda mirror: mirror.meet_rival(number))
        case _:
            return Calamity(f"killed at {number}", lambda mirror: mirror.crash(number))


def exercise(service: str, play: Play) -> Exercise:
    """Return a round: twenty trials, each in its own world."""

    def round_of(seed: int, folder: Path) -> Tally:
        chance, tally = random.Random(seed), Tally()
        for number in range(ROUND):
            tally.add(asyncio.run(play(service, folder / str(number), chance)))
        return tally

    return round_of


EXERCISES: dict[str, Exercise] = {
    "faults": exercise("zhipu", alone),
    "fault-pairs": exercise("zhipu", paired),
    "fault-crashes": exercise("zhipu", struck),
    **{
        f"{service}-{name}": exercise(service, play)
        for service in TRIALS
        if service != "zhipu"
        for name, play in (("faults", alone), ("pairs", paired), ("crashes", struck))
    },
}
