"""Where the key of a mirror's service comes from, for whoever has to mend it. The key itself is not read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.core.printable import printable

if TYPE_CHECKING:
    from kbsync.config.tree import Value


def key_setting(config_file: Path | None, mirror: str) -> str:
    """Such as `api_key is the variable ZHIPU_API_KEY`; '' where the config does not tell."""
    target = {} if config_file is None else _target(config_file, mirror)
    file, key = target.get("api_key_file"), target.get("api_key")
    if file is not None:
        return f"api_key_file is {printable(str(file))}"
    if not isinstance(key, str):
        return ""
    names = re.findall(r"\$\{(\w+)", key)
    if names:
        return f"api_key is the variable {', '.join(names)}"
    return f"api_key is written in {printable(str(config_file))}"


def _target(config_file: Path, mirror: str) -> dict[str, Value]:
    """The block as it is written; empty where the file cannot be read any more."""
    from kbsync.config.tree import Unreadable, grow

    try:
        config = grow(config_file.read_text("utf-8")).value
    except (OSError, UnicodeError, Unreadable):
        return {}
    mirrors = config.get("mirrors") if isinstance(config, dict) else None
    for each in mirrors if isinstance(mirrors, list) else ():
        if isinstance(each, dict) and each.get("name") == mirror and isinstance(each.get("target"), dict):
            target = each["target"]
            assert isinstance(target, dict)
            return target
    return {}
