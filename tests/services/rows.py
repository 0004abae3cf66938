"""Every service, by name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.services import dify, gptbots, lightrag, openai, openwebui, ragflow, zhipu
from tests.services.row import ServiceRow

ROWS: Mapping[str, ServiceRow] = {
    "zhipu": zhipu.ROW,
    "gptbots": gptbots.ROW,
    "openai": openai.ROW,
    "openwebui": openwebui.ROW,
    "lightrag": lightrag.ROW,
    "dify": dify.ROW,
    "ragflow": ragflow.ROW,
}
