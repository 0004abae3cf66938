"""`kbsync init`: a commented config for a folder."""

from __future__ import annotations

import os
from pathlib import Path

import click

from kbsync.cli.exits import Code
from kbsync.cli.options import FOLDER, Choices, examples, pass_choices, shared_options
from kbsync.cli.paper import Paper
from kbsync.core.printable import printable, shell_word
from kbsync.errors import UsageError


@click.command(epilog=examples("kbsync init docs", "kbsync init docs --config ./kbsync.yaml"))
@click.argument("directory", metavar="[DIR]", default=Path(), type=FOLDER)
@shared_options
@pass_choices
def command(choices: Choices, directory: Path) -> int:
    """Write a commented config that mirrors DIR (default: the working directory).

    It goes to --config FILE or $XDG_CONFIG_HOME/kbsync/config.yaml (~/.config/kbsync/config.yaml). A file
    that is there already is left alone.
    """
    from kbsync.config.example import commented_config

    if choices.folder is not None:
        raise UsageError("init takes the folder as its argument: kbsync init DIR")
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is a file; name a folder")
    place = choices.config or _usual_place()
    _write(place, commented_config(directory))
    _say_what_next(place, choices)
    return Code.MIRRORED


def _usual_place() -> Path:
    """The first place where a config is looked for."""
    from kbsync.config.places import SYSTEM_CONFIG, config_places

    place = config_places(os.environ)[0]
    if place == SYSTEM_CONFIG:
        raise UsageError("no home directory is known; name the file to write with --config FILE")
    return place


def _write(place: Path, text: str) -> None:
    """A new file, 0600 as it may come to hold keys."""
    if os.path.lexists(place):
        raise UsageError(f"{place} exists; edit it, or name another file with --config FILE")
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UsageError(f"{place} cannot be made ({why}); name another file with --config FILE") from None
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _say_what_next(place: Path, choices: Choices) -> None:
    named = [] if choices.config is None else ["--config", str(place)]
    paper = Paper()
    paper.line(f"wrote {printable(str(place))}")
    for words, what in ((["--once"], "mirror now"), ([], "mirror, and keep watching")):
        command = " ".join(map(shell_word, ["kbsync", *words, *named]))
        paper.line(f"  {command}  # {what}")
