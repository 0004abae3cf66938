"""Full disks, too few descriptors, damaged state files: at every point, not only a sample."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from tests.cli.zhipu import digests_in, zhipu_sandbox
from tests.resources.disks import LocalMirror, play_full_index, play_full_state, play_full_state_of_service
from tests.resources.spoiling import LOST, SPOILT
from tests.resources.test_corruption import play_spoilt
from tests.resources.test_descriptors import with_few
from tests.torture.exercise import Exercise, Tally

ROUND = 8
"""The writes at which the disk becomes full, in one round."""


def full_state(seed: int, folder: Path) -> Tally:
    """Fill the state's disk from some write on."""
    chance = random.Random(seed)
    for number in chance.sample(range(1, 90), ROUND):
        asyncio.run(play_full_state(folder / f"memory-{number}", number))
        asyncio.run(play_full_state_of_service(folder / f"service-{number}", number))
    return Tally(faults=2 * ROUND)


def full_index(seed: int, folder: Path) -> Tally:
    """Fill the built-in index's disk from some write on."""
    chance, mirror = random.Random(seed), LocalMirror(folder / "local")
    for number in chance.sample(range(1, 110), ROUND):
        play_full_index(mirror, number)
    return Tally(faults=ROUND)


def spoilt_state(seed: int, folder: Path) -> Tally:
    """Damage a state file in some way."""
    for kind in random.Random(seed).sample(sorted(SPOILT | LOST), ROUND):
        asyncio.run(play_spoilt(folder / kind, kind))
    return Tally(faults=ROUND)


def few_descriptors(seed: int, folder: Path) -> Tally:
    """Run a pass with too few descriptors, then one with enough."""
    folder.mkdir(exist_ok=True)
    with zhipu_sandbox(folder) as desk:
        for n in range(20):
            desk.write(f"f{n}.md", f"text {n}")
        descriptors = random.Random(seed).randrange(10, 26)
        process = with_few(desk, descriptors, "--once")
        _, err = process.communicate(timeout=100)
        assert process.returncode in (0, 4), (descriptors, err)
        assert process.returncode == 0 or b"open files" in err, (descriptors, err)
        assert desk.once()["mirrors"][0]["documents"]["ready"] == 20
        assert desk.service.digests() == digests_in(desk.docs)
        assert desk.service.request_count("upload") == 20, descriptors
    return Tally(faults=1, steps=20)


EXERCISES: dict[str, Exercise] = {
    "full-state": full_state,
    "full-index": full_index,
    "spoilt-state": spoilt_state,
    "few-descriptors": few_descriptors,
}
