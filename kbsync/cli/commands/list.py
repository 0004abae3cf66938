"""`kbsync list`: lists the folders in the config. It doesn't read the state."""

from __future__ import annotations

import os
from functools import partial

import click

from kbsync.cli.context import choose
from kbsync.cli.options import Choices, examples, json_option, shared_options
from kbsync.cli.output import Column, Output, print_table
from kbsync.core.text import printable
from kbsync.file_systems import access_within


@click.command(epilog=examples("kbsync list", "kbsync list --json"))
@json_option
@shared_options
def command(choices: Choices, as_json: bool) -> None:
    """List the mirrors in the config: name, folder, target, and what is wrong with the folder.

    `kbsync status` shows their documents.
    """
    installation = choose(choices, here=True, with_secrets=False, with_bases=False)
    rows = list[dict[str, str | None]]()
    for mirror in installation.mirrors:
        folder = str(mirror.folder)
        try:
            problem = access_within(mirror.folder, partial(_find_problem, folder))
        except TimeoutError:
            problem = "not responding"
        rows.append({"name": mirror.name, "folder": folder, "target": mirror.target.type, "problem": problem})
    output = Output()
    if as_json:
        output.json({"mirrors": rows})
        return
    columns = [
        Column(key.upper(), tuple(printable(row[key] or "") for row in rows), is_path=key == "folder")
        for key in ("name", "folder", "target", "problem")
        if any(row[key] for row in rows)
    ]
    # A program that reads the list needs full paths.
    print_table(output, columns, output.columns if output.is_terminal else None)


def _find_problem(folder: str) -> str | None:
    """Return what is wrong with the folder, or None."""
    if os.access(folder, os.R_OK | os.X_OK):
        return None
    return "unreadable" if os.path.lexists(folder) else "missing"
