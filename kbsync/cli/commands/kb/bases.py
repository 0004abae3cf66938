"""`kbsync kb`: the knowledge bases of the account behind a mirror."""

from __future__ import annotations

from typing import Any

import click

from kbsync.accounts.account import BaseRequest, SupportsRetryAll
from kbsync.cli.commands.kb.account import OpenAccount, open_account
from kbsync.cli.commands.kb.applications import command as apps
from kbsync.cli.commands.kb.callback import HEADER, check_address, read_headers
from kbsync.cli.commands.kb.callback import command as callback_of_account
from kbsync.cli.commands.kb.copy import command as copy
from kbsync.cli.options import ID, Choices, CommandGroup, examples, json_option, set_option, shared_options
from kbsync.cli.output import Output, print_deleted, print_message, print_object, print_objects
from kbsync.cli.prompts import confirm_by_typing
from kbsync.contract.target import BaseCard
from kbsync.core.text import format_count, format_size, printable
from kbsync.errors import UsageError

YES = "The knowledge base's name, to confirm without a prompt."


@click.group(
    cls=CommandGroup,
    epilog=examples(
        "kbsync kb list",
        "kbsync kb create handbook --model Embedding-3 --set icon=book",
        "kbsync kb show --mirror handbook",
        "kbsync kb delete 1734786402936664064 --yes handbook",
        "kbsync kb retry --yes handbook        # all failed documents, even those that aren't kbsync's",
        "kbsync kb copy                        # from the built-in base to the configured database",
    ),
)
@shared_options
def command() -> None:
    """Manage the knowledge bases of the account behind a mirror.

    If several mirrors use a service, --mirror names the one whose address and key are used.
    """


command.add_command(apps, "app")
command.add_command(callback_of_account, "callback")
command.add_command(copy, "copy")


@command.command("list")
@json_option
@shared_options
def list_bases(choices: Choices, as_json: bool) -> None:
    """List the account's knowledge bases.

    Each line names the mirrors that use the knowledge base."""
    with open_account(choices) as account:
        bases = [_json(card, account) for card in account.call(account.bases.list_all())]
        create = account.installation.command_line_for_mirrors("kb create NAME")
    heads = {"id": "ID", "documents": "DOCUMENTS", "bytes": "SIZE", "words": "WORDS"}
    heads |= {"model": "MODEL", "mirrors": "MIRRORS", "name": "NAME"}
    print_objects("knowledge_bases", heads, bases, as_json=as_json)
    if not (bases or as_json or choices.quiet):
        print_message(f"the account has no knowledge bases; create one with: {create}")


@command.command()
@click.argument("base", metavar="[ID]", type=ID, required=False)
@json_option
@shared_options
def show(choices: Choices, base: str | None, as_json: bool) -> None:
    """Show the knowledge base with this ID, or the mirror's own."""
    with open_account(choices, needs_own=base is None) as account:
        card = account.call(account.bases.get(base or account.bases.own_id))
        fields = {**_json(card, account), "ours": account.owned_in(card.id)}
    print_object("knowledge_base", fields, as_json=as_json)


@command.command()
@click.argument("name")
@click.option("--model", metavar="ID", help="The id or name of the embedding model; see `kb models`.")
@click.option("--description", help="A description of its purpose.")
@set_option
@json_option
@shared_options
def create(
    choices: Choices,
    name: str,
    model: str | None,
    description: str | None,
    settings: dict[str, str],
    as_json: bool,
) -> None:
    """Create a knowledge base called NAME.

    Prints the line for the config.
    """
    request = BaseRequest(_require_text("NAME", name), description, model, settings)
    with open_account(choices) as account:
        card = account.call(account.bases.create(request))
        created, line = _json(card, account), f'{account.bases.setting}: "{card.id}"'
    if as_json:
        Output().json({"knowledge_base": created, "config": line})
        return
    if not choices.quiet:
        print_message(f"created {printable(name)}; to use it, set this under target: in the config")
    Output().line(line)


@command.command()
@click.argument("base", metavar="ID", type=ID)
@click.option("--name", help="A new name.")
@click.option("--description", help="A new description.")
@click.option(
    "--model", metavar="ID", help="A new embedding model; re-embeds all documents, which costs money."
)
@click.option(
    "--callback",
    metavar="URL",
    help="With --model: the URL to call when a document has been re-embedded.",
)
@click.option("--header", "headers", multiple=True, metavar="NAME=@FILE", help=HEADER)
@set_option
@click.option("--yes", metavar="NAME", help=YES)
@json_option
@shared_options
def update(
    choices: Choices,
    base: str,
    name: str | None,
    description: str | None,
    model: str | None,
    callback: str | None,
    headers: tuple[str, ...],
    settings: dict[str, str],
    yes: str | None,
    as_json: bool,
) -> None:
    """Change the knowledge base with this ID. Asks before it changes the model of a base with documents."""
    if callback is None and headers:
        raise UsageError("--header needs --callback")
    if callback is not None and model is None:
        raise UsageError("--callback needs --model, which re-embeds all documents")
    secrets = read_headers(headers)
    if callback is not None:
        check_address(callback, is_secret=bool(secrets))
    new_name = None if name is None else _require_text("--name", name)
    request = BaseRequest(new_name, description, model, settings, callback, secrets)
    if request == BaseRequest():
        raise UsageError("nothing to change; pass --name, --description, --model or --set")

    with open_account(choices) as account:
        bases = account.bases
        bases.check_changeable()
        bases.fields_of(request)
        card = account.call(bases.get(base))
        # An unknown number of documents may be large.
        if model is not None and card.documents != 0:
            account.warn(
                card,
                "the service will re-embed all documents at your expense; until it has finished, searches "
                "may miss some documents",
            )
            confirm_by_typing(f"change the model of {card.id}", card.name or card.id, yes)
        account.call(bases.update(base, request))
        changed = _json(account.call(bases.get(base)), account)
    print_object("knowledge_base", changed, as_json=as_json)


@command.command()
@click.argument("base", metavar="ID", type=ID)
@click.option("--yes", metavar="NAME", help=YES)
@json_option
@shared_options
def delete(choices: Choices, base: str, yes: str | None, as_json: bool) -> None:
    """Delete the knowledge base with this ID and all its documents. You have to type its name to confirm."""
    with open_account(choices) as account:
        account.bases.check_changeable()
        card = account.call(account.bases.get(base))
        account.warn(card, "this permanently deletes everything in the knowledge base")
        confirm_by_typing(f"delete {card.id}", card.name or card.id, yes)
        account.call(account.bases.delete(base))
    print_deleted(card.id, card.name, as_json=as_json, quiet=choices.quiet)


@command.command()
@click.option("--yes", metavar="NAME", help=YES)
@json_option
@shared_options
def retry(choices: Choices, yes: str | None, as_json: bool) -> None:
    """Have the service retry all failed documents.

    This includes documents that kbsync didn't upload; for one mirror's documents, use `kbsync retry`. You
    have to type the name of the knowledge base to confirm.
    """
    with open_account(choices, needs_own=True) as account:
        bases = account.service.bases
        if not isinstance(bases, SupportsRetryAll):
            retry_command = account.installation.command_line(f"retry --mirror {account.mirror.name}")
            raise UsageError(
                f"a service of type {account.mirror.target.type} can't retry all its failed documents; "
                f"to retry the documents of {account.mirror.name}: {retry_command}"
            )
        card = account.call(account.bases.get(account.bases.own_id))
        reach = f"every failed document of {bases.retry_reach}"
        account.warn(card, f"{reach}, will be reindexed at your expense")
        confirm_by_typing("retry all failed documents", card.name or card.id, yes)
        count = account.call(bases.retry_all())
    if as_json:
        Output().json({"retried": count})
    elif choices.quiet:
        pass
    elif count is None:
        Output().line("the service will reindex all failed documents; it didn't say how many")
    elif count:
        Output().line(f"the service will reindex {format_count(count, 'document')}")
    else:
        Output().line("the service has no failed documents")


@command.command()
@json_option
@shared_options
def models(choices: Choices, as_json: bool) -> None:
    """List the embedding models of the service."""
    with open_account(choices) as account:
        models = account.call(account.bases.models())
    rows = [{"id": model.id, "name": model.name, "description": model.description} for model in models]
    heads = {"id": "ID", "name": "NAME", "description": "DESCRIPTION"}
    print_objects("models", heads, rows, as_json=as_json)


@command.command()
@json_option
@shared_options
def capacity(choices: Choices, as_json: bool) -> None:
    """Show how much of the account's space is used."""
    with open_account(choices) as account:
        room = account.call(account.bases.capacity())
    if as_json:
        fields = {"used_bytes": "used", "total_bytes": "total"}
        fields |= {"used_words": "used_words", "total_words": "total_words"}
        Output().json({key: getattr(room, name, None) for key, name in fields.items()})
    elif room is None:
        Output().line("the service doesn't report how much space the account has")
    else:
        used = f"{format_size(room.used)} of {format_size(room.total)}"
        Output().line(f"{used} used ({_share(room.used, room.total)})")
        if room.used_words is not None and room.total_words is not None:
            used = f"{room.used_words:,} of {room.total_words:,} words"
            Output().line(f"{used} used ({_share(room.used_words, room.total_words)})")


def _share(used: int, total: int) -> str:
    return f"{used / total:.0%}" if total else "none free"


def _require_text(argument: str, text: str) -> str:
    if not text.strip():
        raise UsageError(f"{argument} is empty; choose a name for the knowledge base")
    return text.strip()


def _json(card: BaseCard, account: OpenAccount) -> dict[str, Any]:
    return {
        "id": card.id,
        "name": card.name,
        "description": card.description,
        "model": card.model,
        "documents": card.documents,
        "bytes": card.size,
        "words": card.words,
        "settings": dict(card.settings),
        "mirrors": account.mirrors_of(card.id),
    }
