"""Lists all target types by their names in the config.

A new type needs a row here and a folder next to this file.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from kbsync.config.target import RemoteTargetConfig
    from kbsync.contract.target import Target, TargetContext
    from kbsync.targets.http.limits import Account

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
"""The module and class of each type's config block, which defines and checks its keys and opens the
target."""

WITH_DOCUMENT_SETTINGS = ("zhipu", "gptbots")
"""The types whose block has `document_settings`.

They are listed here so that a config with `documents` doesn't load the other blocks.
"""


# Weak references: once no mirror uses an account, its state is dropped, including the fact that its service
# was down.
_accounts: WeakValueDictionary[tuple[str, str], Account] = WeakValueDictionary()


def open_at_service(config: RemoteTargetConfig, context: TargetContext) -> Target:
    """Return the target for a config block.

    Mirrors with the same account share the account's limits and state in this process.
    """
    import hashlib  # imported late: OpenSSL is slow to load

    from kbsync.targets.http.limits import Account

    # A digest as the key, so that a traceback never shows the secret.
    key = config.base_url, hashlib.sha256(config.api_key.reveal().encode()).hexdigest()
    account = _accounts.get(key) or _accounts.setdefault(key, Account(time.monotonic))
    target: Target = _load(config.opens)(config, context, account=account)
    return target


def _load(location: str) -> Any:
    module, _, name = location.partition(":")
    return getattr(importlib.import_module(module), name)


# Names instead of imports, so that the config can list all types without loading their packages.
class _Types(Mapping[str, Any]):
    """The config classes by type.

    Each is loaded on first use, because a command needs only some of the blocks.
    """

    def __getitem__(self, name: str) -> Any:
        return _load(ROWS[name])

    def __iter__(self) -> Iterator[str]:
        return iter(ROWS)

    def __len__(self) -> int:
        return len(ROWS)


TARGETS: Mapping[str, Any] = _Types()
DEFAULT_TARGET = "local"
"""The default type."""
