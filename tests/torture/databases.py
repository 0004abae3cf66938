"""Kills hosts that feed one PostgreSQL, and the server, a PgBouncer and a Dask cluster, at random."""

from __future__ import annotations

from pathlib import Path

from tests.postgres.kills import OF_CLUSTER, VICTIMS, play
from tests.programs import is_installed
from tests.torture.exercise import Exercise, Tally

KILLS = 10


def killed(seed: int, folder: Path) -> Tally:
    """Run two to four hosts; every other seed uses a pooler, and every third prepares on a cluster."""
    pooled = seed % 2 == 0 and is_installed("pgbouncer")
    victims = VICTIMS.keys() - (set() if pooled else {"pooler"}) - (set() if seed % 3 == 0 else OF_CLUSTER)
    return play(seed, folder, KILLS, victims, pooled=pooled, hosts=2 + seed % 3)


EXERCISES: dict[str, Exercise] = {"kill-postgres": killed}
