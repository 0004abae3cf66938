"""Target types by the name a config gives them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from kbsync.config.callbacks import callback_url
from kbsync.config.gptbots import GptbotsTargetConfig
from kbsync.config.model import LocalTargetConfig, MirrorConfig
from kbsync.config.remote import RemoteTargetConfig
from kbsync.config.secret import Secret
from kbsync.config.vectors import EmbeddingConfig, RerankConfig
from kbsync.config.zhipu import ZhipuTargetConfig
from kbsync.contract.target import Surroundings, Target
from kbsync.targets.services.dialects import ServiceSettings

if TYPE_CHECKING:
    from kbsync.targets.http.limits import Account


def open_target(mirror: MirrorConfig, surroundings: Surroundings) -> Target:
    """The target of a mirror. Raises `TargetError`, `UsageError` or `StateError` where it cannot be had."""
    return OPENERS[mirror.target.type](mirror.target, mirror, surroundings)


def _open_local(config: LocalTargetConfig, _mirror: MirrorConfig, surroundings: Surroundings) -> Target:
    from kbsync.targets.local import LocalTarget

    return LocalTarget.open(
        local_folder(config, surroundings),
        embedding=config.embedding,
        max_bytes=config.max_bytes,
        surroundings=surroundings,
        service=_service(config.embedding),
        rerank=_service(config.rerank),
    )


def _open_zhipu(config: ZhipuTargetConfig, mirror: MirrorConfig, surroundings: Surroundings) -> Target:
    from kbsync.targets.zhipu.settings import ZhipuSettings
    from kbsync.targets.zhipu.shapes import Recall
    from kbsync.targets.zhipu.target import ZhipuTarget

    settings = ZhipuSettings(
        base_url=config.base_url,
        api_key=config.api_key.reveal(),
        knowledge_id=config.knowledge_id,
        max_bytes=config.max_bytes,
        chat_model=config.chat_model,
        auth=config.auth,
        callback_url=(callback_url(mirror) if surroundings.hears else None) or "",
        callback_authorization=_revealed(config.callback_authorization),
        recall=Recall(
            config.search.recall_method,
            config.search.recall_ratio,
            config.search.top_n,
            config.search.rerank_model,
            config.search.fractional_threshold,
        ),
        **remote(config, surroundings),
    )
    return ZhipuTarget(settings, account=account_of(settings.address, settings.api_key))


def _revealed(secret: Secret | None) -> str:
    return "" if secret is None else secret.reveal()


def _open_gptbots(config: GptbotsTargetConfig, mirror: MirrorConfig, surroundings: Surroundings) -> Target:
    from kbsync.targets.gptbots.settings import GptbotsSettings, SearchWish
    from kbsync.targets.gptbots.target import GptbotsTarget

    settings = GptbotsSettings(
        base_url=config.base_url,
        api_key=config.api_key.reveal(),
        knowledge_base_id=config.knowledge_base_id,
        max_bytes=config.max_bytes,
        source_url_prefix=config.source_url_prefix,
        prefix=mirror.prefix,
        qa_update=config.qa_update,
        search=SearchWish(
            config.search.embedding_rate, config.search.doc_correlation, config.search.rerank_version
        ),
        **remote(config, surroundings),
    )
    return GptbotsTarget(settings, account=account_of(settings.base_url, settings.api_key))


OPENERS: dict[str, Callable[[Any, MirrorConfig, Surroundings], Target]] = {
    "local": _open_local,
    "zhipu": _open_zhipu,
    "gptbots": _open_gptbots,
}
"""How each target type is opened, given its own config and the mirror's. A new type is an entry here."""


def remote(config: RemoteTargetConfig, surroundings: Surroundings) -> dict[str, Any]:
    """What every `RemoteSettings` has, but for address and key."""
    waiting = config.vectorization
    return {
        "concurrency": config.concurrency,
        "requests_per_minute": config.requests_per_minute,
        "upload_bytes_per_second": config.upload_bytes_per_second,
        "poll_first": waiting.poll_first,
        "poll_longest": waiting.poll_longest,
        "give_up": waiting.give_up,
        "reembed_tries": waiting.reembed_tries,
        "ca_file": config.ca_file,
        "proxy": config.proxy.reveal() if config.proxy else None,
        "mirror": surroundings.mirror,
        "write": surroundings.cure,
        "is_first": surroundings.read_only,  # a command that somebody typed
    }


def account_of(address: str, key: str) -> Account:
    """What the mirrors in this process that use one account know of it together."""
    from kbsync.targets.http.limits import Account

    who = address, hashlib.sha256(key.encode()).hexdigest()
    account = _accounts.get(who)
    if account is None:
        account = _accounts[who] = Account(time.monotonic)
    return account


_accounts: WeakValueDictionary[tuple[str, str], Account] = WeakValueDictionary()


def _service(config: EmbeddingConfig | RerankConfig) -> ServiceSettings | None:
    """The service that is configured; None for what kbsync does by itself."""
    if config.type == "builtin" or config.type == "onnx" or config.base_url is None:
        return None
    return ServiceSettings(
        dialect=config.type,
        base_url=config.base_url,
        api_key=config.api_key.reveal() if config.api_key else "",
        model=config.model,
        dimensions=config.dimensions if isinstance(config, EmbeddingConfig) else None,
        concurrency=config.concurrency,
        batch=config.batch,
    )


def open_or_stand_in(mirror: MirrorConfig, surroundings: Surroundings) -> Target:
    """The target for reading; where it was not made yet, one that is empty and makes nothing."""
    match mirror.target:
        case LocalTargetConfig() as local:
            if not local_folder(local, surroundings).exists():
                from kbsync.targets.local import Unmade

                return Unmade(local.embedding, local.max_bytes, _service(local.embedding))
    return open_target(mirror, surroundings)


def local_folder(config: LocalTargetConfig, surroundings: Surroundings) -> Path:
    """Where the embedded knowledge base of a mirror lies."""
    return config.path or surroundings.state_dir / "kb" / surroundings.mirror
