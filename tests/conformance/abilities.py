"""Generates the docs' table of each target's abilities from its types, and tells the suite which it has.

`python -m tests.conformance.abilities` prints both.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from kbsync.accounts.account import Bases, Callbacks, SupportsAnswer, SupportsRetryAll, account_of
from kbsync.config.model import settings_of
from kbsync.config.secrets import Confidential, Secret
from kbsync.config.target import BaseId, TargetConfig
from kbsync.contract import searching
from kbsync.contract import target as mirroring
from kbsync.contract.target import Target, TargetContext
from kbsync.targets.registry import TARGETS
from tests.conformance.suite import TargetSuite

SECRETS = ("id.secret", "dbname=kb")
"""A service's key, and a database's connection string."""

HEAD = "| ability | | rows |"


def abilities() -> Mapping[str, type]:
    """Return the optional abilities of targets, in the contract's order, then those of accounts."""
    parts = [vars(part) for part in (mirroring, searching)]
    names = {name: member for part in parts for name, member in part.items()}
    protocols = {name: member for name, member in names.items() if getattr(member, "_is_runtime_protocol", 0)}
    of_account = {
        ability.__name__: ability for ability in (SupportsAnswer, Bases, SupportsRetryAll, Callbacks)
    }
    return {name: member for name, member in protocols.items() if member is not Target} | of_account


def has(target: Target, ability: type) -> bool:
    """Return whether the target or a part of its account has the ability."""
    account = account_of(target)
    parts = (target, account.bases, account.callbacks, account.answers)
    return any(isinstance(part, ability) for part in parts)


def rows() -> Mapping[str, list[str]]:
    """Return the suite's tests in order, by the ability that each requires; `Target` for none."""
    results: dict[str, list[str]] = {name: [] for name in ("Target", *abilities())}
    tests = {name: member for part in reversed(TargetSuite.__mro__) for name, member in vars(part).items()}
    for name, test in tests.items():
        if name.startswith("test_"):
            for ability in set(re.findall(r"require\((\w+)\)", inspect.getsource(test))) or {"Target"}:
                results[ability].append(name.removeprefix("test_").replace("_", " "))
    return results


def sample(target: str) -> TargetConfig:
    """Return a config block of this type that names no real service."""
    block = TARGETS[target]
    samples: dict[str, object] = {}
    for key, setting in settings_of(block).items():
        if setting.is_required and isinstance(setting.mark, Confidential):
            pattern = setting.mark.pattern
            samples[key] = Secret(next(secret for secret in SECRETS if re.fullmatch(pattern, secret)))
        elif setting.is_required and isinstance(setting.mark, BaseId):
            samples[key] = setting.mark.example
    config: TargetConfig = block(**samples)
    return config


@contextlib.contextmanager
def targets() -> Iterator[Mapping[str, Target]]:
    """Yield one target of each type, opened through the registry."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        context = TargetContext("docs", folder, folder)
        instances = {name: sample(name).open(context) for name in TARGETS}
        yield instances
        asyncio.run(_close(instances.values()))


async def _close(targets: Iterable[Target]) -> None:
    for target in targets:
        await target.aclose()


def table() -> str:
    """Return the table: a row for `Target`, one for each ability, and one for each limit that differs."""
    counted = {name: len(methods) for name, methods in rows().items()}
    with targets() as instances:
        lines = [
            f"{HEAD} {' | '.join(f'`{name}`' for name in instances)} |",
            "|---|---|---|" + "---|" * len(instances),
            f"| `Target` | {_about(Target)} | {counted['Target']} | {' | '.join('yes' for _ in instances)} |",
        ]
        for name, ability in abilities().items():
            cells = " | ".join("yes" if has(target, ability) else "–" for target in instances.values())
            lines.append(f"| `{name}` | {_about(ability)} | {counted[name]} | {cells} |")
        in_place = " | ".join("yes" if target.updates_in_place else "–" for target in instances.values())
        batches = " | ".join(f"{target.limits.batch:,}" for target in instances.values())
        marks = " | ".join(
            "path and bytes" if target.limits.marks else "name" for target in instances.values()
        )
    lines.append(f"| | Updates a document in place. | | {in_place} |")
    return "\n".join(
        [
            *lines,
            f"| | Maximum number of documents in one `put`. | | {batches} |",
            f"| | What it stores with a document. | | {marks} |",
        ]
    )


def _about(ability: type) -> str:
    return (ability.__doc__ or "").splitlines()[0].partition(". Calls")[0].rstrip(".") + "."


if __name__ == "__main__":
    print(table())
    for ability, names in rows().items():
        print(f"\n{ability}", *names, sep="\n  ")
