"""What the vendor says of knowledge bases and of models, as values. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kbsync.contract.managing import BaseCard, Model
from kbsync.targets.http.wishes import told_wishes
from kbsync.targets.zhipu.ids import id_of
from kbsync.targets.zhipu.models import MODELS
from kbsync.targets.zhipu.wire import data_of, integer, objects_in, text_of
from kbsync.targets.zhipu.wishes import TOLD_OF_A_BASE


def cards_of(body: Any) -> tuple[BaseCard, ...]:
    """A page of `GET /knowledge`; what has no id is none."""
    return tuple(card for item in objects_of(body) if (card := _card(item)) is not None)


def card_of(body: Any, base_id: str) -> BaseCard | None:
    """The base of `GET /knowledge/{id}`, under the id that was asked for; None: no data."""
    content = data_of(body)
    return _card({**content, "id": base_id}) if isinstance(content, dict) and content else None


def models_of(body: Any) -> tuple[Model, ...]:
    """The answer to `GET /embedding`."""
    return tuple(
        Model(model_id, text_of(item.get("name")), text_of(item.get("description")))
        for item in objects_of(body)
        if (model_id := id_of(item.get("id"))) is not None
    )


def created_id(body: Any) -> str | None:
    """The id of what was made: in an object, as documented, or bare, as the examples show."""
    content = data_of(body)
    return id_of(content.get("id") if isinstance(content, dict) else content)


def objects_of(body: Any) -> Sequence[dict[str, Any]]:
    """The objects of a list, which stands under `list` or bare."""
    content = data_of(body)
    return tuple(objects_in(content.get("list") if isinstance(content, dict) else content))


def _card(item: dict[str, Any]) -> BaseCard | None:
    base_id = id_of(item.get("id"))
    if base_id is None:
        return None
    return BaseCard(
        base_id,
        text_of(item.get("name")),
        text_of(item.get("description")),
        text_of(item.get("embedding_model")) or _model_name(item.get("embedding_id")),
        _count(item.get("document_size")),
        _count(item.get("length")),
        told_wishes(item, TOLD_OF_A_BASE),
        _count(item.get("word_num")),
    )


def _model_name(value: object) -> str:
    model_id = id_of(value) or ""
    return next((model.name for model in MODELS if model.id == model_id), model_id)


def _count(value: object) -> int | None:
    number = integer(value)
    return number if number is not None and number >= 0 else None
