"""`kbsync explain`: explains why a search does or doesn't find a file."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kbsync.cli.context import (
    MirrorPath,
    choose,
    command_context,
    open_for_reading,
    open_state,
    reader,
    set_up_logs,
)
from kbsync.cli.exit_codes import Code, printing_result
from kbsync.cli.mirrored import find_mirrored
from kbsync.cli.options import DOCUMENT, Choices, examples, json_option, shared_options
from kbsync.cli.output import Output
from kbsync.config import places
from kbsync.core.text import path_argument, printable, printable_lines
from kbsync.errors import UsageError
from kbsync.file_systems import access_within
from kbsync.threads import run_coroutine

if TYPE_CHECKING:
    from kbsync.engine.explain import PathExplanation
    from kbsync.engine.plan import CommandContext
    from kbsync.engine.settings import MirrorSettings
    from kbsync.installation import Installation
    from kbsync.state.read_only import ReadOnlyState, Tx


@click.command(
    epilog=examples(
        "kbsync explain reports/scan.pdf",
        "kbsync explain reports/scan.pdf --text | less",
        "kbsync explain notes.md --json | jq .selection.rule",
    )
)
@click.argument("path", type=DOCUMENT)
@click.option("--text", is_flag=True, help="Also print the extracted text.")
@json_option
@shared_options
def command(choices: Choices, path: str, text: bool, as_json: bool) -> int:
    """Explain why search does or doesn't find PATH: rules, stability, state, document, extracted text.

    PATH is absolute, or relative to the mirror or the working directory. For a folder, it summarizes the
    files. Exits 2 if PATH is in neither the folders nor the state.
    """
    installation = choose(choices, here=True)
    set_up_logs(choices)
    explanation = run_coroutine(explain_file(installation, path, Path.cwd(), text=text))
    if explanation.mirror is None:
        explanation.answer = (
            _describe_other_mirror(choices, path)
            or _describe_detached_mirror(installation, path)
            or explanation.answer
        )
    code, output = Code.USAGE if explanation.is_unknown else Code.MIRRORED, Output()
    with printing_result(code):
        if as_json:
            output.json({**explanation.to_json(), **({"text": explanation.text} if text else {})})
        else:
            _print(output, explanation, text=text)
    return code


async def explain_file(installation: Installation, path: str, cwd: Path, *, text: bool) -> PathExplanation:
    """Explain the file that a user in `cwd` means by `path`, even if no mirror contains it.

    `text`: whether to include the extracted text. Raises `KbsyncError`, for example if several mirrors
    contain the path.
    """
    import asyncio

    from kbsync.engine.clock import SystemClock
    from kbsync.engine.explain import explain_path, outside
    from kbsync.once import settings_of

    # In a thread, because disk access on a dead mount may never return.
    def resolve_path() -> tuple[dict[str, MirrorSettings], list[MirrorPath], CommandContext]:
        settings = {mirror.name: settings_of(mirror) for mirror in installation.mirrors}
        with open_state(installation) as state:
            return settings, paths_of(installation, state, path, cwd), command_context(installation)

    settings, paths, context = await asyncio.to_thread(resolve_path)
    if not paths:
        roots = [setting.root for setting in settings.values()]
        return outside(path, roots, await asyncio.to_thread(_find_symlink, path, cwd, roots))
    if len(paths) > 1:
        names = ", ".join(name for name, _ in paths)
        raise UsageError(f"several mirrors have {printable(path)}: {names}; choose one with --mirror NAME")
    [(name, below)] = paths
    mirror = installation.mirror(name)
    async with open_for_reading(installation, mirror) as target:
        read, clock = reader(installation), SystemClock()
        return await explain_path(settings[name], target, read, clock, below, context=context, text=text)


def _find_symlink(path: str, cwd: Path, roots: Sequence[Path]) -> Path | None:
    """Return the symlink in one of the folders `roots` through which a user in `cwd` names `path`, if any."""
    for root in roots:
        for base in (cwd, root):
            typed = Path(os.path.normpath(base / path))
            below = typed.relative_to(root) if typed.is_relative_to(root) else Path()
            for folder in (root / parent for parent in reversed(below.parents[:-1])):
                with contextlib.suppress(TimeoutError):
                    if access_within(root, folder.is_symlink):
                        return folder
    return None


def _describe_other_mirror(choices: Choices, path: str) -> str:
    """Return the folder of another mirror that contains the path, and the command that explains the path.

    Return '' if there is none.
    """
    typed = Path(os.path.abspath(path))  # noqa: PTH100
    # Only the folder is resolved: the path may be a symlink.
    absolute = (
        Path(os.path.realpath(typed)) if typed.is_dir() else Path(os.path.realpath(typed.parent), typed.name)
    )
    folder = absolute if absolute.is_dir() else absolute.parent
    mirrored = find_mirrored(folder, os.environ)
    root = None if mirrored is None else mirrored.root
    if root is None:
        # The mirror that has the folder may exclude it.
        known = places.known_folder_for(folder, places.find_state_home(os.environ))
        root = None if known is None else known.folder
    if root is None:
        return ""
    how = "with `--folder`" if mirrored is None or mirrored.config is None else f"by {mirrored.config}"
    below = path_argument(os.path.relpath(absolute, root))
    command_line = Choices(folder=root).typed(f"explain {shlex.quote(below)}")
    used = "the config" if choices.folder is None else "--folder"
    return f"{root} is mirrored {how}, but {used} has different folders; run `{command_line}`."


def _describe_detached_mirror(installation: Installation, path: str) -> str:
    """Return what is left of a mirror that contains the path but is no longer in the config, or ''."""
    from kbsync.cli.detached import describe_detached, find_detached

    real = Path(os.path.realpath(path))
    for holdings in find_detached(installation):
        if holdings.record is not None and real.is_relative_to(holdings.record.folder):
            left = describe_detached(installation, holdings)
            return f"The mirror {holdings.name} of {holdings.record.folder} is {left}."
    return ""


def paths_of(installation: Installation, state: ReadOnlyState, path: str, cwd: Path) -> list[MirrorPath]:
    """Return the locations in the mirrors that a user in `cwd` may mean by `path`, the most likely first."""
    from kbsync.cli.context import is_known, resolve

    def is_in_state(mirror: str, path: str) -> bool:
        def find_path(tx: Tx) -> bool:
            record = tx.mirrors.named(mirror)
            return record is not None and is_known(tx, record.id, path)

        return state.read(find_path)

    return resolve(path, installation.mirrors, is_in_state, cwd)


def _print(output: Output, explanation: PathExplanation, *, text: bool) -> None:
    where = f"{explanation.mirror}: " if explanation.mirror is not None else ""
    output.line(output.bold(printable(f"{where}{explanation.path or '.'}")))
    output.line(printable(explanation.answer))
    if explanation.sentences:
        output.line()
    output.lines(f"  {printable(sentence)}" for sentence in explanation.sentences)
    if text and explanation.text is not None:
        output.line()
        output.line(printable_lines(explanation.text))
    elif text and explanation.status is not None and not explanation.is_lost:
        output.line("  This knowledge base can't return the text it extracted from the document.")
