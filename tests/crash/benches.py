"""Lists the benches by name, with the jobs that run on each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.bench import Bench
from tests.bench.local import LocalBench
from tests.bench.memory import MemoryBench
from tests.crash.jobs import COPY_JOBS, JOBS, RECIPE_JOBS, REMOTE_JOBS, TEXT_JOBS, Job
from tests.engine.world import World
from tests.memory.behaviour import Behaviour
from tests.memory.target import MemoryTarget
from tests.memory.variants import AbleMemory, ForgetfulMemory, RenamingMemory, UpdatingMemory
from tests.services.rows import ROWS

GIVE_UP = 60.0
"""Seconds: work on a copy without a known result restarts after half of that."""


def in_memory(folder: Path, *, target: type[MemoryTarget], slow: bool = False, **limits: Any) -> MemoryBench:
    """Return a bench in memory. `slow`: documents become searchable some time after they were accepted."""
    behaviour = Behaviour(indexing_polls=1, answers_ready=False) if slow else Behaviour()
    return MemoryBench(World(folder, target, **limits), behaviour)


MEMORY: Mapping[str, Callable[[Path], Bench]] = {
    "plain": partial(in_memory, target=MemoryTarget),
    "slow": partial(in_memory, target=MemoryTarget, slow=True),
    "renaming": partial(in_memory, target=RenamingMemory, slow=True),
    "updating": partial(in_memory, target=UpdatingMemory, slow=True),
    "able": partial(in_memory, target=AbleMemory),
    "forgetful": partial(in_memory, target=ForgetfulMemory, slow=True, list_lag=1.0, marks=False),
    "paid": partial(in_memory, target=MemoryTarget, slow=True, paid=True),
    "paid-updating": partial(in_memory, target=UpdatingMemory, slow=True, paid=True),
}


def at_service(folder: Path, *, name: str, **settings: Any) -> Bench:
    """Return a service's bench; its faults aren't needed, so neither is TCP."""
    bench = ROWS[name].make_bench(folder, reembed_tries=1, **settings)
    bench.world.is_offline = True
    return bench


SERVICES: Mapping[str, Callable[[Path], Bench]] = {name: partial(at_service, name=name) for name in ROWS} | {
    "openwebui": partial(at_service, name="openwebui", give_up=GIVE_UP, poll_first=2.0)
}

BENCHES: Mapping[str, Callable[[Path], Bench]] = {**MEMORY, "local": LocalBench, **SERVICES}


def jobs_on(bench: str) -> Mapping[str, Job]:
    """Return the jobs that apply to the bench."""
    match bench:
        case "gptbots":
            late = {name: REMOTE_JOBS[name] for name in ("supersede-late", "prefix", "audit")}
            return {**JOBS, **RECIPE_JOBS, **late}
        case "openwebui":
            jobs = ("create", "change", "rename", "delete", "adopt", "supersede-unsure")
            return {**{name: JOBS[name] for name in jobs}, **COPY_JOBS}
        case "openai":
            some = ("create", "change", "rename", "delete", "adopt", "everything")
            return {name: JOBS[name] for name in some}
        case "ragflow":
            few = ("create", "change", "rename", "delete", "mend", "adopt")
            return {name: REMOTE_JOBS[name] for name in few}
        case "zhipu":
            return {**REMOTE_JOBS, **RECIPE_JOBS}
        case "lightrag":
            # Another prefix renames all at once, with a gap for each.
            names = ("create", "change", "rename", "delete", "adopt", "audit")
            return {**{name: REMOTE_JOBS[name] for name in names}, **TEXT_JOBS}
        case "dify":  # as at Zhipu, without jobs that send the same requests; it has one recipe for all
            alike = ("adopt-plain", "rename-keep", "mend", "approve", "everything", "prefix", "audit")
            return {
                name: job
                for name, job in REMOTE_JOBS.items()
                if name not in alike and not name.startswith("supersede")
            }
        case "paid" | "paid-updating":
            return RECIPE_JOBS
    return REMOTE_JOBS if bench == "forgetful" else JOBS
