"""`kbsync remove`: removes a mirror from the config, and keeps or deletes its documents.

It deletes the documents first and edits the config last. If it is interrupted, the config still contains the
mirror, and the user can run the same command again. Documents can only be deleted while the config gives
access to the knowledge base. A running daemon does both itself.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from kbsync.cli.commands.forget import end_mirror, show_holdings
from kbsync.cli.context import change_state, choose, read_state, request_reload
from kbsync.cli.detached import how_to_delete
from kbsync.cli.options import Choices, complete_mirror, examples, json_option, shared_options
from kbsync.cli.output import Output, print_message
from kbsync.cli.prompts import ask
from kbsync.core.text import format_count, printable
from kbsync.errors import StateError, UsageError
from kbsync.state import lock

if TYPE_CHECKING:
    from kbsync.forget import Holdings
    from kbsync.installation import Installation

ANSWER_CHECK_SECONDS = 0.1

MAX_WAIT_FOR_DAEMON = 15.0
"""Maximum number of seconds for a daemon to begin; it may be reloading its config."""


@click.command(
    epilog=examples(
        "kbsync remove notes           # ask whether to keep its documents",
        "kbsync remove notes --keep    # keep its documents",
        "kbsync remove notes --delete  # delete its documents too",
    )
)
@click.argument("name", shell_complete=complete_mirror)
@click.option("--keep", is_flag=True, help="Keep the mirror's documents in the knowledge base.")
@click.option(
    "--delete", is_flag=True, help="Delete the mirror's documents, and no others, from the knowledge base."
)
@json_option
@shared_options
def command(choices: Choices, name: str, keep: bool, delete: bool, as_json: bool) -> None:
    """Remove the mirror NAME from the config. Your files stay.

    On a terminal, it asks whether to keep or to delete the documents in the knowledge base. The rest of the
    config stays unchanged, and a running kbsync reloads it. If the command is interrupted, run it again.
    """
    from kbsync.forget import read_holdings

    if keep and delete:
        raise UsageError("--keep and --delete cannot be used together")
    every = replace(choices, mirrors=())
    installation = choose(every, with_secrets=False, with_bases=False, with_folders=False)
    config_path = installation.config.path
    if config_path is None:
        raise UsageError(
            f"{name} isn't in any config; to forget it: {installation.command_line(f'forget {name}')}"
        )
    holdings = read_state(installation, lambda tx: read_holdings(tx, installation, name))
    is_in_config = name in [mirror.name for mirror in installation.config.mirrors]
    if holdings is None or is_in_config:
        # Raises for an unknown name, and if the config can't be edited, before anything is deleted.
        installation.narrow(name)
        _edit(installation, name, writes=False, deletes=delete)
    documents = 0 if holdings is None else holdings.documents
    delete = delete or (not keep and _ask_whether_to_delete(name, documents))
    deleted, what_next = 0, ""
    if not delete or holdings is None:
        _edit(installation, name)
        what_next = request_reload(installation, "", removed=name)
    elif is_in_config and (answer := _remove_in_daemon(installation, holdings, name)):
        if problem := answer.get("problem"):
            raise StateError(f"{name} can't be removed now: {problem}")
        deleted, documents = answer["deleted"], 0
    else:
        if not lock.is_held(installation.state_dir):  # otherwise nothing is deleted
            show_holdings(holdings, True)
        deleted, _ = end_mirror(installation, holdings, choices, lambda: _edit(installation, name))
        documents = 0
        what_next = request_reload(installation, "", removed=name)
    if as_json:
        Output().json(
            {
                "removed": name,
                "documents": {"kept": documents, "deleted": deleted},
                "config": str(config_path),
            }
        )
        return
    fates = [(documents, "kept"), (deleted, "deleted")]
    counts = "".join(f"; {format_count(number, 'document')} {fate}" for number, fate in fates if number)
    result = f"removed {name} from {config_path}" if is_in_config else f"{name} isn't in {config_path}"
    Output().line(printable(f"{result}{counts}"))
    if choices.quiet:
        return
    if documents and holdings is not None:
        Output().line(how_to_delete(installation, holdings))
    if what_next:
        Output().line(what_next)


def _remove_in_daemon(installation: Installation, holdings: Holdings, name: str) -> Mapping[str, Any]:
    """Have a running daemon remove the mirror with its documents.

    Return its answer: the number of `deleted` documents, or a `problem`. It is empty if no daemon with this
    config is running, or if the daemon ends or doesn't begin. If this command is interrupted later, the
    daemon continues.
    """
    from kbsync.state.inbox import REMOVE

    config_path, state_dir = installation.config.path, installation.state_dir
    daemon = lock.find_daemon(state_dir)
    if config_path is None or daemon is None or not daemon.uses(config_path):
        return {}
    request = change_state(installation, lambda tx: tx.inbox.post(REMOVE, name, {}, time.time()))
    try:
        until, is_shown = time.monotonic() + MAX_WAIT_FOR_DAEMON, False
        while True:
            is_running = lock.find_daemon(state_dir) is not None
            requests = read_state(installation, lambda tx: tx.inbox.removals())
            answer = next((message.args for message in requests if message.id == request), None)
            if answer and "problem" not in answer and not is_shown:
                show_holdings(holdings, True)
                is_shown = True
            if answer is None or not answer.keys().isdisjoint(("deleted", "problem")):
                return answer or {}
            if not is_running or (not answer and time.monotonic() > until):
                return {}
            time.sleep(ANSWER_CHECK_SECONDS)
    finally:
        change_state(installation, lambda tx: tx.inbox.done(request))


def _ask_whether_to_delete(name: str, documents: int) -> bool:
    """Ask whether to delete the documents, if there are any. Raises `UsageError` without a terminal."""
    if not sys.stdin.isatty():
        raise UsageError(f"not a terminal; to remove {name}, pass --keep or --delete")
    if not documents:
        return False
    count = format_count(documents, "document")
    question = f"{name} has {count} in its knowledge base; keep or delete them?"
    while (typed := ask(question, "keep").lower()) not in ("keep", "delete"):
        print_message("type keep or delete")
    return typed == "delete"


def _edit(installation: Installation, name: str, *, writes: bool = True, deletes: bool = False) -> None:
    from kbsync.config.folders import remove_mirror

    config_path = installation.config.path
    assert config_path is not None
    remove_mirror(config_path, os.environ, name, installation.command_line, writes=writes, deletes=deletes)
