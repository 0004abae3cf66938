"""`kbsync kb`: the knowledge bases behind mirrors of a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kbsync.cli.commands.kb.applications import command as apps
from kbsync.cli.commands.kb.callback import HEADER, check_address, read_headers
from kbsync.cli.commands.kb.callback import command as callback_of_account
from kbsync.cli.exit_codes import Code
from kbsync.cli.options import (
    Choices,
    CommandGroup,
    examples,
    json_option,
    pass_choices,
    set_option,
    shared_options,
)
from kbsync.cli.output import Output, counted, print_objects, tell, with_settings
from kbsync.core.text import printable, sized
from kbsync.errors import UsageError

if TYPE_CHECKING:
    from kbsync.cli.commands.kb.account import OpenAccount
    from kbsync.contract.managing import BaseCard


YES = "The name of the knowledge base, instead of being asked for it."


@click.group(
    cls=CommandGroup,
    epilog=examples(
        "kbsync kb list",
        "kbsync kb create handbook --model Embedding-3 --set icon=book",
        "kbsync kb show --mirror handbook",
        "kbsync kb delete 1734786402936664064 --yes handbook",
        "kbsync kb retry --yes handbook        everything that failed there, others' too",
    ),
)
@shared_options
def command() -> None:
    """Manage the knowledge bases of the account behind a mirror.

    With several mirrors of services, --mirror names the one whose address and key are used.
    """


command.add_command(apps, "app")
command.add_command(callback_of_account, "callback")


@command.command("list")
@json_option
@shared_options
@pass_choices
def list_bases(choices: Choices, as_json: bool) -> int:
    """List every knowledge base of the account, and the mirrors that use it."""
    from kbsync.cli.commands.kb.account import open_account

    with open_account(choices) as account:
        found = [_json(card, account) for card in account.call(account.bases.all())]
        create = account.installation.cure_for_mirrors("kb create NAME")
    head = ("ID", "DOCUMENTS", "SIZE", "WORDS", "MODEL", "MIRRORS", "NAME")
    print_objects("knowledge_bases", head, found, _row, as_json=as_json)
    if not (found or as_json or choices.quiet):
        tell(f"the account has no knowledge base; make one with: {create}")
    return Code.MIRRORED


@command.command()
@click.argument("base", metavar="[ID]", required=False)
@json_option
@shared_options
@pass_choices
def show(choices: Choices, base: str | None, as_json: bool) -> int:
    """Show the knowledge base ID; without it, the mirror's own."""
    from kbsync.cli.commands.kb.account import open_account

    with open_account(choices, needs_own=base is None) as account:
        card = account.call(account.bases.look(base or account.bases.own))
        found = {**_json(card, account), "ours": account.owned_in(card.id)}
    _print(found, as_json)
    return Code.MIRRORED


@command.command()
@click.argument("name")
@click.option("--model", metavar="ID", help="Id or name of the model for its vectors; see `kb models`.")
@click.option("--description", help="What it is for.")
@set_option
@json_option
@shared_options
@pass_choices
def create(
    choices: Choices,
    name: str,
    model: str | None,
    description: str | None,
    settings: dict[str, str],
    as_json: bool,
) -> int:
    """Make a knowledge base called NAME, and print the line for the config."""
    from kbsync.cli.commands.kb.account import open_account
    from kbsync.contract.managing import BaseWish

    wish = BaseWish(_filled("NAME", name), description, model, settings)
    with open_account(choices) as account:
        card = account.call(account.bases.create(wish))
        made, line = _json(card, account), f'{account.bases.setting}: "{card.id}"'
    if as_json:
        Output().json({"knowledge_base": made, "config": line})
        return Code.MIRRORED
    if not choices.quiet:
        tell(f"{printable(name)} is created; under target: in the config write")
    Output().line(line)
    return Code.MIRRORED


@command.command()
@click.argument("base", metavar="ID")
@click.option("--name", help="Another name.")
@click.option("--description", help="Another description.")
@click.option("--model", metavar="ID", help="Another model: makes all vectors again, which costs.")
@click.option("--callback", metavar="URL", help="With --model: told when a document has its new vectors.")
@click.option("--header", "headers", multiple=True, metavar="NAME=@FILE", help=HEADER)
@set_option
@click.option("--yes", metavar="NAME", help=YES)
@json_option
@shared_options
@pass_choices
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
) -> int:
    """Change the knowledge base ID. Another model asks first where there are documents."""
    from kbsync.cli.commands.kb.account import open_account
    from kbsync.cli.prompts import confirm_by_typing
    from kbsync.contract.managing import BaseWish

    if callback is None and headers:
        raise UsageError("--header goes with --callback; give that, too")
    if callback is not None and model is None:
        raise UsageError("--callback goes with --model, which makes all vectors again; give that, too")
    secrets = read_headers(headers)
    if callback is not None:
        check_address(callback, is_secret=bool(secrets))
    called = None if name is None else _filled("--name", name)
    wish = BaseWish(called, description, model, settings, callback, secrets)
    if wish == BaseWish():
        raise UsageError("nothing to change; give --name, --description, --model or --set")

    with open_account(choices) as account:
        bases = account.bases
        bases.check_changeable()
        bases.check(wish)
        card = account.call(bases.look(base))
        if model is not None and card.documents != 0:
            account.warn(card, "all of them get new vectors, at your cost, and may not be found meanwhile")
            confirm_by_typing(f"{card.id} gets another model", card.name or card.id, yes)
        account.call(bases.update(base, wish))
        changed = _json(account.call(bases.look(base)), account)
    _print(changed, as_json)
    return Code.MIRRORED


@command.command()
@click.argument("base", metavar="ID")
@click.option("--yes", metavar="NAME", help=YES)
@json_option
@shared_options
@pass_choices
def delete(choices: Choices, base: str, yes: str | None, as_json: bool) -> int:
    """Delete the knowledge base ID with everything in it, after its name was typed."""
    from kbsync.cli.commands.kb.account import open_account
    from kbsync.cli.prompts import confirm_by_typing

    with open_account(choices) as account:
        account.bases.check_changeable()
        card = account.call(account.bases.look(base))
        account.warn(card, "all of it is to be deleted for good")
        confirm_by_typing(f"{card.id} is deleted", card.name or card.id, yes)
        account.call(account.bases.delete(base))
    if as_json:
        Output().json({"deleted": card.id, "name": card.name})
    elif not choices.quiet:
        Output().line(f"{card.id} {printable(card.name)} is deleted")
    return Code.MIRRORED


@command.command()
@click.option("--yes", metavar="NAME", help=YES)
@json_option
@shared_options
@pass_choices
def retry(choices: Choices, yes: str | None, as_json: bool) -> int:
    """Have the service index all that failed there again, others' too, after the base's name was typed.

    For documents of a mirror there is `kbsync retry`.
    """
    from kbsync.cli.commands.kb.account import open_account
    from kbsync.cli.prompts import confirm_by_typing

    with open_account(choices, needs_own=True) as account:
        target = account.retries_all
        card = account.call(account.bases.look(account.bases.own))
        reach = f"every failed document of {target.retry_reach}"
        account.warn(card, f"{reach}, is indexed again, at the account's cost")
        confirm_by_typing("all that failed is indexed again", card.name or card.id, yes)
        number = account.call(target.retry_all())
    if as_json:
        Output().json({"retried": number})
    elif choices.quiet:
        pass
    elif number is None:
        Output().line("what failed will be indexed again; the service does not say how many documents")
    elif number:
        Output().line(f"{counted(number, 'document')} will be indexed again")
    else:
        Output().line("nothing has failed there")
    return Code.MIRRORED


@command.command()
@json_option
@shared_options
@pass_choices
def models(choices: Choices, as_json: bool) -> int:
    """List the models a knowledge base can have."""
    from kbsync.cli.commands.kb.account import open_account

    def row(found: dict[str, Any]) -> tuple[str, ...]:
        return tuple(map(printable, found.values()))

    with open_account(choices) as account:
        models = account.call(account.bases.models())
    found = [{"id": each.id, "name": each.name, "description": each.description} for each in models]
    print_objects("models", ("ID", "NAME", "DESCRIPTION"), found, row, as_json=as_json)
    return Code.MIRRORED


@command.command()
@json_option
@shared_options
@pass_choices
def capacity(choices: Choices, as_json: bool) -> int:
    """Tell how much of the account's space is used."""
    from kbsync.cli.commands.kb.account import open_account

    with open_account(choices) as account:
        room = account.call(account.bases.room())
    if as_json:
        fields = {"used_bytes": "used", "total_bytes": "total"}
        fields |= {"used_words": "used_words", "total_words": "total_words"}
        Output().json({key: getattr(room, name, None) for key, name in fields.items()})
    elif room is None:
        Output().line("the service does not say how much space the account has")
    else:
        used = f"{sized(room.used)} of {sized(room.total)}"
        Output().line(f"{used} are used ({_share(room.used, room.total)})")
        if room.used_words is not None and room.total_words is not None:
            used = f"{room.used_words:,} of {room.total_words:,} words"
            Output().line(f"{used} are used ({_share(room.used_words, room.total_words)})")
    return Code.MIRRORED


def _share(used: int, total: int) -> str:
    return f"{used / total:.0%}" if total else "none free"


def _filled(what: str, text: str) -> str:
    if not text.strip():
        raise UsageError(f"{what} is empty; give the knowledge base a name")
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


def _print(found: dict[str, Any], as_json: bool) -> None:
    output = Output()
    if as_json:
        output.json({"knowledge_base": found})
        return
    for key, value in with_settings(found):
        output.line(f"{key + ':':<13}{_told(key, value)}")


def _told(key: str, value: Any) -> str:
    if value is None:
        return "?"
    if isinstance(value, list):
        return ", ".join(value) or "-"
    if key == "bytes":
        return sized(value)
    return f"{value:,}" if isinstance(value, int) else printable(value) or "-"


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    keys = ("id", "documents", "bytes", "words", "model", "mirrors", "name")
    return tuple(_told(key, found[key]) for key in keys)
