"""The command line's options for a folder without a config: its target and its exclude patterns.

kbsync stores them in the folder's state directory, so that later commands need only `--folder`. It never
stores keys; they come from the environment each time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.config.model import MirrorConfig, Needs
from kbsync.dataclass import dataclass
from kbsync.errors import UsageError, system_reason
from kbsync.permissions import access_fix, replace_private

if TYPE_CHECKING:
    from kbsync.config.yaml import Value

_FILE = "folder.json"


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """The values of `--target`, `--url`, `--base` and `--exclude`. An option that wasn't given is None."""

    target: str | None = None
    url: str | None = None
    base: str | None = None
    exclude: tuple[str, ...] | None = None

    @property
    def patterns(self) -> list[str]:
        """The exclude patterns. `--exclude ''` only drops the stored ones, so an empty pattern isn't one."""
        return [pattern for pattern in self.exclude or () if pattern]

    @property
    def names_target(self) -> bool:
        """Whether any of the options is about the knowledge base."""
        return (self.target, self.url, self.base) != (None, None, None)

    def over(self, earlier: FolderOptions) -> FolderOptions:
        """Return these options, and add missing ones from `earlier`.

        If these options contain any option for the target, no other option for the target is added. The same
        applies to the patterns.
        """
        target = self if self.names_target else earlier
        exclude = earlier.exclude if self.exclude is None else self.exclude
        return replace(target, exclude=exclude)


def recall(state_dir: Path) -> FolderOptions:
    """Return the options stored in the state directory. Raises `UsageError` if they can't be read."""
    file = state_dir / _FILE
    try:
        fields = json.loads(file.read_bytes())
        exclude = fields.pop("exclude")
        return FolderOptions(**fields, exclude=None if exclude is None else tuple(exclude))
    except (FileNotFoundError, NotADirectoryError):
        return FolderOptions()
    except OSError as error:
        raise UsageError(
            f"{file} can't be read ({system_reason(error)}); choose another state directory with "
            f"--state-dir, or {access_fix(file)}"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{file} can't be read ({error}); pass --target or --exclude again") from None


def remember(state_dir: Path, options: FolderOptions) -> None:
    """Store the options in `state_dir`, which must exist.

    Even if kbsync is killed while writing, the directory contains either these options or the previous ones.
    """
    replace_private(state_dir / _FILE, json.dumps(asdict(options)).encode())


def apply_options(
    mirror: MirrorConfig, options: FolderOptions, environ: Mapping[str, str], needs: Needs
) -> MirrorConfig:
    """Return the mirror with this target and these patterns. Raises a `UsageError` that names the option."""
    if options == FolderOptions():
        return mirror
    # Read the options as a config, with the same checks.
    from kbsync.config.problems import ConfigError
    from kbsync.config.reader import load_content
    from kbsync.config.template import as_yaml, base_key, secret_key, secret_variable

    target = read_target(options)
    secret, base = (None, None) if target is None else (secret_key(target.type), base_key(target.type))
    settings: dict[str, Value] = {"name": mirror.name, "folder": "/", **config_settings(options)}
    content = as_yaml({"mirrors": [settings]}).encode()
    try:
        config = load_content(Path("/config.yaml"), content, environ, needs)
    except ConfigError as error:
        options_of = {"base_url": "--url", "exclude": "--exclude", base: "--base"}
        lines = list[str]()
        for problem in error.problems:
            key = problem.key.rpartition(".")[2].partition("[")[0]
            if target is not None and key == secret:
                noun, variable = key.rpartition("_")[2], secret_variable(target.type)
                lines.append(f"{variable} must contain the target's {noun}, but isn't set")
            else:
                lines.append(f"{options_of.get(key, key)}: {problem.message}")
        raise UsageError("\n".join(lines)) from None
    [parsed] = config.mirrors
    return replace(mirror, target=parsed.target, exclude=parsed.exclude)


def config_settings(options: FolderOptions) -> dict[str, Value]:
    """Return the keys that a mirror in a config needs for these stored options, as YAML values.

    The value of a secret is a reference to the environment variable that `--folder` reads.
    """
    from kbsync.config.template import escaped, secret_key, secret_variable

    settings: dict[str, Value] = {}
    if options.patterns:
        settings["exclude"] = [escaped(pattern) for pattern in options.patterns]
    if (target := read_target(options)) is not None:
        values: dict[str, Value] = {"type": target.type}
        if (secret := secret_key(target.type)) is not None:
            values[secret] = f"${{{secret_variable(target.type)}}}"
        settings["target"] = values | {name: escaped(value) for name, value in target.values.items()}
    return settings


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """A target chosen with options, other than the default one.

    `values`: its settings without the secret.
    """

    type: str
    values: Mapping[str, str]


def read_target(options: FolderOptions) -> TargetOptions | None:
    """Return the target that the options select, or None for the built-in knowledge base.

    Raises `UsageError`.
    """
    from kbsync.config.kinds import not_among
    from kbsync.config.template import base_key, has_address
    from kbsync.targets.registry import DEFAULT_TARGET, TARGETS

    target = options.target
    if target is None and options.names_target:
        raise UsageError(f"--url and --base need --target TYPE; types: {', '.join(TARGETS)}")
    if target is None:
        return None
    if target not in TARGETS:
        raise UsageError(f"--target: {not_among(target, TARGETS, 'target type')}")
    values, key = dict[str, str](), base_key(target)
    if options.url is not None:
        if not has_address(target):
            raise UsageError(f"--url: a target of type {target} has no URL")
        values["base_url"] = options.url
    if options.base is not None:
        if key is None:
            raise UsageError(f"--base: a target of type {target} has no id")
        values[key] = options.base
    elif key is not None and target != DEFAULT_TARGET:
        raise UsageError(f"--base: pass the id of the {target} knowledge base ({key})")
    return None if target == DEFAULT_TARGET else TargetOptions(target, values)
