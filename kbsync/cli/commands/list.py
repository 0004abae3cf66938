"""`kbsync list`: the folders in the config, without anything of the state."""

from __future__ import annotations

import os

import click

from kbsync.cli.context import choose
from kbsync.cli.options import Choices, examples, json_option, shared_options
from kbsync.cli.output import Column, Output, table
from kbsync.core.text import printable


@click.command(epilog=examples("kbsync list", "kbsync list --json"))
@json_option
@shared_options
def command(choices: Choices, as_json: bool) -> None:
    """List the mirrors in the config: name, folder, target, and what is wrong with the folder.

    `kbsync status` shows their documents.
    """
    mirrors = choose(choices, here=True, with_secrets=False, with_bases=False).mirrors
    problems = [_problem(str(mirror.folder)) for mirror in mirrors]
    output = Output()
    if as_json:
        rows = zip(mirrors, problems, strict=True)
        output.json(
            {
                "mirrors": [
                    {
                        "name": one.name,
                        "folder": str(one.folder),
                        "target": one.target.type,
                        "problem": problem,
                    }
                    for one, problem in rows
                ]
            }
        )
        return
    columns = [
        Column("NAME", tuple(mirror.name for mirror in mirrors), is_key=True),
        Column("FOLDER", tuple(printable(str(mirror.folder)) for mirror in mirrors), is_path=True),
        Column("TARGET", tuple(mirror.target.type for mirror in mirrors)),
    ]
    if any(problems):
        columns.append(Column("PROBLEM", tuple(problem or "" for problem in problems)))
    heads, *lines = table(columns, output.columns)
    output.line(output.dim(heads))
    for line in lines:
        output.line(line)


def _problem(folder: str) -> str | None:
    """What is wrong with a folder; None if this user can read it."""
    if not os.path.lexists(folder):
        return "missing"
    return None if os.access(folder, os.R_OK | os.X_OK) else "unreadable"
