"""The models that make the vectors of the vendor's knowledge bases. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from kbsync.contract.managing import Model
from kbsync.errors import Rejected

MODELS = (Model("3", "Embedding-2"), Model("11", "Embedding-3"), Model("12", "Embedding-3-pro"))
"""As documented, for installations that do not list them."""

USUAL = "embedding-3"


def model_among(models: Sequence[Model], wish: str) -> Model | None:
    """The model of this id or name; None where there is none."""
    wanted = wish.strip().lower()
    return next((model for model in models if wanted in (model.id, model.name.lower())), None)


def chosen_model(wish: str | None, models: Sequence[Model]) -> Model:
    """The model of this id or name; without a wish the usual one. Raises `Rejected` with those there are."""
    found = model_among(models, wish or USUAL)
    if found is not None:
        return found
    if wish is None and models:
        return models[-1]
    known = ", ".join(f"{model.id} ({model.name})" for model in models) or "none"
    raise Rejected(f"there is no model {wish}; there are: {known}", code="model")
