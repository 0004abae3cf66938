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
from kbsync.cli.output import ObjectTable, Output, counted, tell, with_settings
from kbsync.core.text import printable, sized
from kbsync.errors import UsageError

if TYPE_CHECKING:
    from kbsync.contract.managing import BaseCard, Bases, RetriesAll, Room
    from kbsync.installation import Installation


BASES = ObjectTable(
    "knowledge_bases",
    ("ID", "DOCUMENTS", "SIZE", "WORDS", "MODEL", "MIRRORS", "NAME"),
    "the account has no knowledge base; make one with: {}",
)
MODELS = ObjectTable("models", ("ID", "NAME", "DESCRIPTION"))
YES = "The name of the knowledge base, instead of being asked for it."


@click.group(
    cls=CommandGroup,
    epilog=examples(
        "kbsync kb list",
        "kbsync kb create handbook --model Embedding-3 --set icon=book",
        "kbsync kb show --mirror handbook",
        "kbsync kb delete 1734786402936664064 --yes handbook",
        "kbsync kb retry --yes handbook        all that failed there, whoever put it there",
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
    from kbsync.cli.commands.kb.account import order

    async def work(bases: Bases, installation: Installation) -> tuple[list[dict[str, Any]], str]:
        found = [_json(card, bases, installation) for card in await bases.all()]
        return found, installation.cure_for_mirrors("kb create NAME")

    found, create = order(choices, work)
    BASES.show(found, _row, as_json=as_json, quiet=choices.quiet, create=create)
    return Code.MIRRORED


@command.command()
@click.argument("base", metavar="[ID]", required=False)
@json_option
@shared_options
@pass_choices
def show(choices: Choices, base: str | None, as_json: bool) -> int:
    """Show the knowledge base ID; without it, the mirror's own."""
    from kbsync.cli.commands.kb.account import order, ours_in

    async def work(bases: Bases, installation: Installation) -> dict[str, Any]:
        card = await bases.look(base or bases.own)
        return {**_json(card, bases, installation), "ours": ours_in(installation, bases.address, card.id)}

    found = order(choices, work, needs_own=base is None)
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
    from kbsync.cli.commands.kb.account import order
    from kbsync.contract.managing import BaseWish

    wish = BaseWish(_filled("NAME", name), description, model, settings)

    async def work(bases: Bases, installation: Installation) -> tuple[dict[str, Any], str]:
        card = await bases.create(wish)
        return _json(card, bases, installation), f'{bases.setting}: "{card.id}"'

    made, line = order(choices, work)
    if as_json:
        Output().json({"knowledge_base": made, "config": line})
        return Code.MIRRORED
    if not choices.quiet:
        tell(f"{printable(name)} is made; under target: in the config write")
    Output().line(line)
    return Code.MIRRORED


@command.command()
@click.argument("base", metavar="ID")
@click.option("--name", help="Another name.")
@click.option("--description", help="Another description.")
@click.option("--model", metavar="ID", help="Another model: makes all vectors anew, which costs.")
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
    from kbsync.cli.commands.kb.account import confirm, name_of, order, warn
    from kbsync.contract.managing import BaseWish

    if callback is None and headers:
        raise UsageError("--header goes with --callback; give that, too")
    if callback is not None and model is None:
        raise UsageError("--callback goes with --model, which makes all vectors anew; give that, too")
    secrets = read_headers(headers)
    if callback is not None:
        check_address(callback, is_secret=bool(secrets))
    called = None if name is None else _filled("--name", name)
    wish = BaseWish(called, description, model, settings, callback, secrets)
    if wish == BaseWish():
        raise UsageError("nothing to change; give --name, --description, --model or --set")

    async def work(bases: Bases, installation: Installation) -> dict[str, Any]:
        bases.check_changeable()
        bases.check(wish)
        card = await bases.look(base)
        if model is not None and card.documents != 0:
            fate = "all of them get new vectors, at your cost, and may not be found meanwhile"
            warn(installation, bases, card, fate)
            confirm(f"{card.id} gets another model", name_of(card), yes)
        await bases.update(base, wish)
        return _json(await bases.look(base), bases, installation)

    _print(order(choices, work), as_json)
    return Code.MIRRORED


@command.command()
@click.argument("base", metavar="ID")
@click.option("--yes", metavar="NAME", help=YES)
@json_option
@shared_options
@pass_choices
def delete(choices: Choices, base: str, yes: str | None, as_json: bool) -> int:
    """Delete the knowledge base ID with everything in it, after its name was typed."""
    from kbsync.cli.commands.kb.account import confirm, name_of, order, warn

    async def work(bases: Bases, installation: Installation) -> BaseCard:
        bases.check_changeable()
        card = await bases.look(base)
        warn(installation, bases, card, "all of it is to be deleted for good")
        confirm(f"{card.id} is deleted", name_of(card), yes)
        await bases.delete(base)
        return card

    gone = order(choices, work)
    if as_json:
        Output().json({"deleted": gone.id, "name": gone.name})
    elif not choices.quiet:
        Output().line(f"{gone.id} {printable(gone.name)} is deleted")
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
    from kbsync.cli.commands.kb.account import confirm, name_of, order_retry, warn

    async def work(target: RetriesAll, bases: Bases, installation: Installation) -> int | None:
        card = await bases.look(bases.own)
        reach = f"every failed document of {target.retry_reach}"
        warn(installation, bases, card, f"{reach}, is indexed again, at the account's cost")
        confirm("all that failed is indexed again", name_of(card), yes)
        return await target.retry_all()

    taken = order_retry(choices, work)
    if as_json:
        Output().json({"retried": taken})
    elif not choices.quiet:
        Output().line(_taken(taken))
    return Code.MIRRORED


def _taken(number: int | None) -> str:
    if number is None:
        return "what failed will be indexed again; the service does not tell how much that is"
    return f"{counted(number, 'document')} will be indexed again" if number else "nothing has failed there"


@command.command()
@json_option
@shared_options
@pass_choices
def models(choices: Choices, as_json: bool) -> int:
    """List the models a knowledge base can have."""
    from kbsync.cli.commands.kb.account import order

    async def work(bases: Bases, _installation: Installation) -> list[dict[str, Any]]:
        return [
            {"id": each.id, "name": each.name, "description": each.description}
            for each in await bases.models()
        ]

    MODELS.show(order(choices, work), _model_row, as_json=as_json, quiet=choices.quiet)
    return Code.MIRRORED


@command.command()
@json_option
@shared_options
@pass_choices
def capacity(choices: Choices, as_json: bool) -> int:
    """Tell how much of the account's space is used."""
    from kbsync.cli.commands.kb.account import order

    async def work(bases: Bases, _installation: Installation) -> Room | None:
        return await bases.room()

    room = order(choices, work)
    if as_json:
        keys = ("used_bytes", "total_bytes", "used_words", "total_words")
        shown = dict[str, int | None].fromkeys(keys)
        if room is not None:
            told = (room.used, room.total, room.used_words, room.total_words)
            shown = dict(zip(keys, told, strict=True))
        Output().json(shown)
    elif room is None:
        Output().line("the service does not tell how much space the account has")
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


def _json(card: BaseCard, bases: Bases, installation: Installation) -> dict[str, Any]:
    from kbsync.cli.commands.kb.account import users

    return {
        "id": card.id,
        "name": card.name,
        "description": card.description,
        "model": card.model,
        "documents": card.documents,
        "bytes": card.size,
        "words": card.words,
        "settings": dict(card.settings),
        "mirrors": users(installation, bases.address, card.id),
    }


def _print(found: dict[str, Any], as_json: bool) -> None:
    paper = Output()
    if as_json:
        paper.json({"knowledge_base": found})
        return
    for key, value in with_settings(found):
        paper.line(f"{key + ':':<13}{_told(key, value)}")


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


def _model_row(found: dict[str, Any]) -> tuple[str, ...]:
    return tuple(printable(found[key]) for key in ("id", "name", "description"))
