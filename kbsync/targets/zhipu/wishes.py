"""What can be set of the vendor's knowledge bases and applications beside what has an option of its own.

Source: the vendor's manual of the knowledge API, 3.1 and 3.6, and its page on creating a knowledge base.
"""

from __future__ import annotations

from collections.abc import Mapping

from kbsync.contract.answering import ApplicationWish
from kbsync.contract.managing import BaseWish
from kbsync.errors import Rejected
from kbsync.targets.http.wishes import Setting, choice, decimal, flag, read_wishes, sentence, truth, whole
from kbsync.targets.zhipu.models import MODELS, model_among

_COLORS = choice("blue", "red", "orange", "purple", "sky", "green", "yellow")

TOLD_OF_A_BASE: Mapping[str, Setting] = {
    "background": _COLORS,
    "icon": choice("question", "book", "seal", "wrench", "tag", "horn", "house"),
    "contextual": flag(),
}
OF_A_BASE: Mapping[str, Setting] = {
    **TOLD_OF_A_BASE,
    "embedding_model": choice(*(model.name for model in MODELS)),  # told as the model itself
}

OF_AN_APPLICATION: Mapping[str, Setting] = {
    "top_p": decimal(lambda number: 0 < number < 1, "a number above 0 and below 1"),
    "temperature": decimal(lambda number: 0 < number <= 1, "a number above 0, at most 1"),
    "max_token": whole(1, 8192),
    "param_desc": choice("strict", "moderate", "flexible", "custom"),
    "icon_color": _COLORS,
    "icon_type": choice(
        "robot_assist",
        "robot_navigate",
        "robot_guardian",
        "robot_service",
        "robot_messenger",
        "robot_chat",
        "robot_engineer",
    ),
}

OF_ITS_RECALL: Mapping[str, Setting] = {
    "slice_config_type": sentence(),  # the manual names no values; its example has customized
    "slice_count": whole(1, 1000),
    "recall_method": choice("embedding", "keyword", "mixed"),
    "rerank_status": flag(),
    "rerank_model_name": sentence(),
    "embedding_recall_ratio": whole(0, 100),
    "show_recall_result": truth(),
    "recall_slice_splicing_method": sentence(),  # such as {{切片内容}}
}
"""What `knowledge_info` has of it."""


def of_base(wish: BaseWish) -> dict[str, object]:
    """The fields to send. Raises `Rejected` for what is no setting, or contradicts the model."""
    fields = read_wishes(wish.settings, OF_A_BASE, "a knowledge base")
    named = fields.get("embedding_model")
    if named is not None and wish.model is None:
        raise Rejected(
            "embedding_model goes with --model and names the same one; add --model", code="setting"
        )
    model = model_among(MODELS, wish.model or "")
    if named is not None and model is not None and model.name != named:
        raise Rejected(
            f"embedding_model is {named}, --model is {model.name}; name one of them twice", code="setting"
        )
    return fields


def of_application(wish: ApplicationWish) -> tuple[dict[str, object], dict[str, object]]:
    """The fields to send, and those of how its passages are found. Raises `Rejected`."""
    fields = read_wishes(wish.settings, {**OF_AN_APPLICATION, **OF_ITS_RECALL}, "an application")
    recall = {key: fields.pop(key) for key in OF_ITS_RECALL if key in fields}
    return fields, recall
