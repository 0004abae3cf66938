"""`${NAME}` from the environment and `<key>_file` from a file, filled in before a config is checked."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from kbsync.config.draft import Draft
from kbsync.config.kinds import Absent, Refused, Substituted, Whereabouts
from kbsync.config.problems import Loc, path_shown, shown
from kbsync.config.shape import blocks_in, secret_keys
from kbsync.config.tree import Value

_LARGEST_SECRET = 65_536
_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)(\}?)")


def fill(draft: Draft, environ: Mapping[str, str], where: Whereabouts, *, with_secrets: bool = True) -> None:
    """Replace what the draft refers to by what it stands for; what cannot be had is refused.

    `with_secrets`: else a secret that cannot be had is `Absent`.
    """
    for loc, text in list(_references(draft.value, ())):
        try:
            draft.put(loc, substitute(text, environ))
        except Refused as reason:
            if with_secrets or not _is_secret(draft, loc):
                draft.refuse(loc, str(reason))
            else:
                draft.put(loc, Absent(draft.problem(loc, str(reason))))
    for loc, block in blocks_in(draft.value).items():
        for key in secret_keys(block):
            _fill_from_file(draft, loc, key, where, with_secrets=with_secrets)


def _is_secret(draft: Draft, loc: Loc) -> bool:
    """A secret is meant, or the file that holds one."""
    block = blocks_in(draft.value).get(loc[:-1])
    return block is not None and str(loc[-1]).removesuffix("_file") in secret_keys(block)


def _references(value: Value, loc: Loc) -> Iterator[tuple[Loc, str]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _references(one, (*loc, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _references(item, (*loc, index))
    elif isinstance(value, str) and "${" in value:
        yield loc, value


def substitute(text: str, environ: Mapping[str, str]) -> str:
    """`text` with each `${NAME}` replaced and `$${` made `${`. Raises Refused for what cannot be."""
    return Substituted(_REFERENCE.sub(lambda match: _replacement(match, environ), text))


def _replacement(match: re.Match[str], environ: Mapping[str, str]) -> str:
    if match[0] == "$${":
        return "${"
    name = match[1]
    if not match[2] or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
        raise Refused(f"{shown(match[0])!r} is no reference; allowed: ${{NAME}}, or $${{ for a plain ${{")
    if name not in environ:
        raise Refused(f"${{{name}}} is not set in the environment; set it, or write $${{ for a plain ${{")
    return environ[name]


def _fill_from_file(draft: Draft, loc: Loc, key: str, where: Whereabouts, *, with_secrets: bool) -> None:
    named = (*loc, f"{key}_file")
    value = draft.at(named)
    if value is None:
        return
    if draft.at((*loc, key)) is not None:
        draft.refuse(named, f"stands beside {key}; keep one of the two")
        return
    if isinstance(value, Absent):
        draft.move(named, (*loc, key), value)
        return
    try:
        secret = read_secret(value, where)
    except Refused as reason:
        if with_secrets:
            draft.refuse(named, str(reason))
        else:
            draft.move(named, (*loc, key), Absent(draft.problem(named, str(reason))))
    else:
        draft.move(named, (*loc, key), Substituted(secret))


def read_secret(value: Value, where: Whereabouts) -> str:
    """The text of the file that `value` names, without one newline at its end. Raises Refused."""
    if not isinstance(value, str) or not value.strip():
        raise Refused("is not a path; allowed: the path of a file that holds the text")
    path = where.absolute(value)
    # What was filled in may be the secret itself, put here by mistake.
    named = "the file that ${…} names" if isinstance(value, Substituted) else path_shown(path)
    try:
        return _small_text(path)
    except OSError as error:
        reason = (
            f"cannot be read ({(error.strerror or str(error)).lower()}); check the path and who may read it"
        )
    except ValueError as error:
        reason = str(error)
    raise Refused(f"{named} {reason}")


def _small_text(path: Path) -> str:
    """The text of a small file. Raises OSError, and ValueError with the reason for what is none."""
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("is not a file")
        content = file.read(_LARGEST_SECRET + 1)
    if len(content) > _LARGEST_SECRET:
        raise ValueError(f"is too large for a secret; allowed: {_LARGEST_SECRET} bytes")
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError("is not text (UTF-8)") from None
    if not text:
        raise ValueError("is empty; write the text into it")
    return text


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO must not make us wait
