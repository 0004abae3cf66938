"""Every target type by the name a config gives it: a new one is a row here and a folder beside this file."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

ROWS = {
    "local": "kbsync.targets.local.config:LocalTargetConfig",
    "postgres": "kbsync.targets.postgres.config:PostgresTargetConfig",
    "zhipu": "kbsync.targets.zhipu.config:ZhipuTargetConfig",
    "gptbots": "kbsync.targets.gptbots.config:GptbotsTargetConfig",
    "openai": "kbsync.targets.openai.config:OpenaiTargetConfig",
    "openwebui": "kbsync.targets.openwebui.config:OpenWebuiTargetConfig",
    "lightrag": "kbsync.targets.lightrag.config:LightragTargetConfig",
    "dify": "kbsync.targets.dify.config:DifyTargetConfig",
    "ragflow": "kbsync.targets.ragflow.config:RagflowTargetConfig",
}
"""Module and class of the config block, which has all else: keys, checks, how the target is opened."""


# Names and no imports: the config knows every type by this table, and no folder has to be loaded for that.
class _Types(Mapping[str, Any]):
    """The config classes by type, each loaded when it is asked for: a command reads the blocks it needs."""

    def __getitem__(self, name: str) -> Any:
        module, _, block = ROWS[name].partition(":")
        return getattr(importlib.import_module(module), block)

    def __iter__(self) -> Iterator[str]:
        return iter(ROWS)

    def __len__(self) -> int:
        return len(ROWS)


TARGETS: Mapping[str, Any] = _Types()
DEFAULT_TARGET = "local"
"""The type of a target that names none."""
