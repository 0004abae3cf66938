"""Every stage there is, by name, and which jobs are played on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.crash.jobs import JOBS, RECIPE_JOBS, REMOTE_JOBS, Job
from tests.crash.stage_local import LocalStage
from tests.crash.stage_zhipu import ZhipuStage
from tests.crash.stages import MemoryStage, Stage
from tests.memory.target import MemoryTarget
from tests.memory.variants import AbleMemory, ForgetfulMemory, RenamingMemory, UpdatingMemory
from tests.targets.gptbots.stage import GptbotsStage

MEMORY: Mapping[str, Callable[[Path], Stage]] = {
    "plain": lambda place: MemoryStage(place, MemoryTarget),
    "slow": lambda place: MemoryStage(place, MemoryTarget, slow=True),
    "renaming": lambda place: MemoryStage(place, RenamingMemory, slow=True),
    "updating": lambda place: MemoryStage(place, UpdatingMemory, slow=True),
    "able": lambda place: MemoryStage(place, AbleMemory),
    "forgetful": lambda place: MemoryStage(place, ForgetfulMemory, slow=True, list_lag=1.0, marks=False),
    "paid": lambda place: MemoryStage(place, MemoryTarget, slow=True, paid=True),
    "paid-updating": lambda place: MemoryStage(place, UpdatingMemory, slow=True, paid=True),
}

STAGES: Mapping[str, Callable[[Path], Stage]] = {
    **MEMORY,
    "local": LocalStage,
    "zhipu": ZhipuStage,
    "gptbots": GptbotsStage,
}


def jobs_on(stage: str) -> Mapping[str, Job]:
    """The jobs that mean something there."""
    match stage:
        case "gptbots":
            return {
                **JOBS,
                **RECIPE_JOBS,
                **{name: REMOTE_JOBS[name] for name in ("supersede-late", "prefix", "audit")},
            }
        case "zhipu":
            return {**REMOTE_JOBS, **RECIPE_JOBS}
        case "paid" | "paid-updating":
            return RECIPE_JOBS
    return REMOTE_JOBS if stage == "forgetful" else JOBS
