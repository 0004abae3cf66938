"""Reads a config file: YAML in, a `Config` out, or every problem at once."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from kbsync.config.checks import findings
from kbsync.config.draft import Draft
from kbsync.config.kinds import Whereabouts
from kbsync.config.model import Config
from kbsync.config.places import home
from kbsync.config.problems import ConfigError, Problem
from kbsync.config.reading import read
from kbsync.config.remote import BaseId
from kbsync.config.shape import blocks_in, settings_of
from kbsync.config.substitution import fill
from kbsync.config.tree import Tree, Unreadable, grow

_LARGEST_FILE = 262_144


def load(
    path: Path, environ: Mapping[str, str], *, with_secrets: bool = True, with_bases: bool = True
) -> Config:
    """The config in `path`, references filled in from `environ`. Raises ConfigError with all problems.

    `with_secrets`: else keys and tokens may be missing, such as those that only a service's own environment
    has, until somebody asks for them. `with_bases`: else ids of knowledge bases may be left out, which get
    stand-ins: whoever makes a base cannot know its id yet.
    """
    file = Path(os.path.abspath(path))  # noqa: PTH100 (Path.absolute keeps `..`)
    draft = Draft(file, _tree(file))
    where = Whereabouts(file.parent, home(environ))
    if not isinstance(draft.value, dict):
        what = "is empty" if draft.value is None else "is no block of keys"
        draft.refuse((), f"{what}; begin with `mirrors:`; `kbsync init` writes an example")
    fill(draft, environ, where, with_secrets=with_secrets)
    if not with_bases:
        _name_bases(draft)
    config = read(draft, where)
    for finding in findings(config):
        draft.find(finding.loc, finding.message, finding.rests_on)
    draft.end()
    return dataclasses.replace(config, path=file)


_UNNAMED = "not-named-yet-"


def _name_bases(draft: Draft) -> None:
    """Each base without an id gets one of its own, so that no two mirrors seem to share theirs."""
    for number, (loc, block) in enumerate(blocks_in(draft.value).items()):
        written = draft.at(loc)
        for key, setting in settings_of(block).items():
            if isinstance(setting.mark, BaseId) and isinstance(written, dict) and not written.get(key):
                draft.forgive((*loc, key))
                written[key] = f"{_UNNAMED}{number}"


def _tree(file: Path) -> Tree:
    try:
        return grow(_text(file))
    except Unreadable as error:
        problem = Problem(file, error.line, "", str(error))
    raise ConfigError([problem])


def _text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST_FILE + 1)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise Unreadable(None, f"cannot be read ({why}); check the path and who may read it") from None
    if len(content) > _LARGEST_FILE:
        raise Unreadable(None, f"is larger than {_LARGEST_FILE} bytes; that is no config; name another file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable(line, "is not UTF-8; save the file as UTF-8") from None
