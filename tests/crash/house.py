"""Every stage there is, by name, and which jobs are played on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from kbsync.targets.memory import (
    AbleMemory,
    ForgetfulMemory,
    MemoryTarget,
    RenamingMemory,
    UpdatingMemory,
)
from tests.crash.jobs import JOBS, REMOTE_JOBS, Job
from tests.crash.stage_local import LocalStage
from tests.crash.stage_zhipu import ZhipuStage
from tests.crash.stages import MemoryStage, Stage
from tests.targets.gptbots.stage import GptbotsStage

MEMORY: Mapping[str, Callable[[Path], Stage]] = {
    "plain": lambda place: MemoryStage(place, MemoryTarget),
    "slow": lambda place: MemoryStage(place, MemoryTarget, slow=True),
    "renaming": lambda place: MemoryStage(place, RenamingMemory, slow=True),
    "updating": lambda place: MemoryStage(place, UpdatingMemory, slow=True),
    "able": lambda place: MemoryStage(place, AbleMemory),
    "forgetful": lambda place: MemoryStage(place, ForgetfulMemory, slow=True, list_lag=1.0, marks=False),
}

STAGES: Mapping[str, Callable[[Path], Stage]] = {
    **MEMORY,
    "local": LocalStage,
    "zhipu": ZhipuStage,
    "gptbots": GptbotsStage,
}


def jobs_on(stage: str) -> Mapping[str, Job]:
    """The jobs that mean something there."""
    if stage == "gptbots":
        return {**JOBS, **{name: REMOTE_JOBS[name] for name in ("supersede-late", "prefix")}}
    return REMOTE_JOBS if stage in ("forgetful", "zhipu") else JOBS
