"""Finds mirrors that are no longer in the config although their documents are still in a knowledge base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kbsync.cli.context import read_state
from kbsync.core.text import format_count, format_list, printable
from kbsync.state import lock

if TYPE_CHECKING:
    from kbsync.forget import Holdings
    from kbsync.installation import Installation
    from kbsync.state.read_only import Tx


def find_detached(installation: Installation) -> list[Holdings]:
    """Return the mirrors in the state that have documents but aren't in the config."""
    names = {mirror.name for mirror in installation.config.mirrors}

    def read(tx: Tx) -> list[Holdings | None]:
        detached = [record.name for record in tx.mirrors.all() if record.name not in names]
        if not detached:
            return []  # `status` loads no more than it needs
        from kbsync.forget import read_holdings

        return [read_holdings(tx, installation, name) for name in detached]

    all_holdings = read_state(installation, read)
    return [holdings for holdings in all_holdings if holdings is not None and holdings.documents]


def describe_detached(installation: Installation, holdings: Holdings) -> str:
    """Return how many documents such a mirror still has in which knowledge bases, and how to delete them."""
    bases = [holdings.binding] if holdings.owned.documents else []
    bases += [leftover.base for leftover in holdings.leftovers]
    places = format_list(list(dict.fromkeys(base.location for base in bases if base is not None)))
    count, verb = format_count(holdings.documents, "document"), "is" if holdings.documents == 1 else "are"
    delete = how_to_delete(installation, holdings)
    return printable(f"not in the config, but {count} {verb} still in {places}; {delete}")


def how_to_delete(installation: Installation, holdings: Holdings) -> str:
    """Return a sentence with the command that deletes the documents later.

    The command depends on whether the rest of the config still gives access to all knowledge bases with the
    documents.
    """
    from kbsync.targets.registry import DEFAULT_TARGET

    name = holdings.name
    pronoun = "it" if holdings.documents == 1 else "them"
    # Only the config has a service's keys. The path of a built-in knowledge base is in the state.
    bases = [base for base in (holdings.binding, *(leftover.base for leftover in holdings.leftovers)) if base]
    at_services = {(base.target, base.address, base.base) for base in bases if base.target != DEFAULT_TARGET}
    keys = {mirror.name: mirror.target.base_key(mirror.name) for mirror in installation.config.mirrors}
    key = keys.pop(name, None)
    # Only one process at a time can change the state.
    first = ["stop kbsync"] if lock.is_held(installation.state_dir) else []
    if not at_services or (len(at_services) == 1 and key in keys.values()):
        # The state keeps the former name of a mirror that was renamed in the config since the last pass.
        known_as = installation.former_names.get(name, name)
        command = installation.command_line(f"forget {known_as} --delete-documents")
    else:
        first.append(f"put {name} back into the config")
        command = installation.command_line(f"remove {name} --delete")
    steps = ", ".join([f"to delete {pronoun}", *first, *(["then run"] if first else [])])
    return f"{steps}: {command}"
