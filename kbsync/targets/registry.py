"""Target types by the name a config gives them."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from kbsync.config.gptbots import GptbotsTargetConfig
from kbsync.config.model import LocalTargetConfig, MirrorConfig
from kbsync.config.vectors import EmbeddingConfig, RerankConfig
from kbsync.config.zhipu import ZhipuTargetConfig
from kbsync.contract import Surroundings, Target
from kbsync.targets.vectors.settings import ServiceSettings

if TYPE_CHECKING:
    from kbsync.targets.http import Account


def open_target(mirror: MirrorConfig, surroundings: Surroundings) -> Target:
    """The target of a mirror. Raises `TargetError`, `UsageError` or `StateError` where it cannot be had."""
    match mirror.target:
        case LocalTargetConfig() as local:
            from kbsync.targets.local.target import LocalTarget

            return LocalTarget.open(
                local_folder(local, surroundings),
                embedding=local.embedding,
                max_bytes=local.max_bytes,
                surroundings=surroundings,
                service=_service(local.embedding),
                rerank=_service(local.rerank),
            )
        case ZhipuTargetConfig() as zhipu:
            return _open_zhipu(zhipu, surroundings)
        case GptbotsTargetConfig() as gptbots:
            return _open_gptbots(gptbots, mirror.prefix, surroundings)


def _open_zhipu(config: ZhipuTargetConfig, surroundings: Surroundings) -> Target:
    from kbsync.targets.zhipu.target import ZhipuSettings, ZhipuTarget

    settings = ZhipuSettings(
        base_url=config.base_url,
        api_key=config.api_key.reveal(),
        knowledge_id=config.knowledge_id,
        max_bytes=config.max_bytes,
        auth=config.auth,
        **_remote(config, surroundings),
    )
    return ZhipuTarget(settings, account=_account(settings.address, settings.api_key))


def _open_gptbots(config: GptbotsTargetConfig, prefix: str, surroundings: Surroundings) -> Target:
    from kbsync.targets.gptbots.target import GptbotsSettings, GptbotsTarget

    settings = GptbotsSettings(
        base_url=config.base_url,
        api_key=config.api_key.reveal(),
        knowledge_base_id=config.knowledge_base_id,
        max_bytes=config.max_bytes,
        source_url_prefix=config.source_url_prefix,
        prefix=prefix,
        **_remote(config, surroundings),
    )
    return GptbotsTarget(settings, account=_account(settings.base_url, settings.api_key))


def _remote(config: ZhipuTargetConfig | GptbotsTargetConfig, surroundings: Surroundings) -> dict[str, Any]:
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
        "is_first": surroundings.read_only,  # a command that somebody typed
    }


def _account(address: str, key: str) -> Account:
    """What the mirrors in this process that use one account know of it together."""
    from kbsync.targets.http import Account

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
    )


def open_or_stand_in(mirror: MirrorConfig, surroundings: Surroundings) -> Target:
    """The target for reading; where it was not made yet, one that is empty and makes nothing."""
    match mirror.target:
        case LocalTargetConfig() as local:
            if not local_folder(local, surroundings).exists():
                from kbsync.targets.local.unmade import Unmade

                return Unmade(local.embedding, local.max_bytes, _service(local.embedding))
    return open_target(mirror, surroundings)


def local_folder(config: LocalTargetConfig, surroundings: Surroundings) -> Path:
    """Where the embedded knowledge base of a mirror lies."""
    return config.path or surroundings.state_dir / "kb" / surroundings.mirror
