"""`kbsync kb app`: what answers questions from the knowledge bases of a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

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
from kbsync.cli.output import ObjectTable, Output, tell, with_settings
from kbsync.core.text import printable, shell_word
from kbsync.errors import UsageError

if TYPE_CHECKING:
    from kbsync.contract.answering import Application, Applications
    from kbsync.contract.managing import Bases


LISTING = ObjectTable(
    "applications",
    ("ID", "MODEL", "KNOWLEDGE BASES", "NAME"),
    "the account has no application; make one with: {}",
)
KNOWLEDGE = "Id of a knowledge base it answers from; may be repeated."


@click.group(
    cls=CommandGroup,
    epilog=examples(
        "kbsync kb app create helpdesk --set slice_count=5",
        "kbsync kb app list",
        "kbsync ask 'how do I …'",
    ),
)
@shared_options
def command() -> None:
    """Manage applications: each answers questions from knowledge bases. `kbsync ask` asks them."""


@command.command("list")
@json_option
@shared_options
@pass_choices
def list_applications(choices: Choices, as_json: bool) -> int:
    """List every application of the account."""
    from kbsync.cli.commands.kb.account import order_application

    async def work(applications: Applications, _bases: Bases) -> list[dict[str, Any]]:
        return [to_json(one) for one in await applications.all()]

    found, cure = order_application(choices, work)
    LISTING.show(found, _row, as_json=as_json, quiet=choices.quiet, create=cure("kb app create NAME"))
    return Code.MIRRORED


@command.command()
@click.argument("application", metavar="ID")
@json_option
@shared_options
@pass_choices
def show(choices: Choices, application: str, as_json: bool) -> int:
    """Show the application ID."""
    from kbsync.cli.commands.kb.account import order_application

    async def work(applications: Applications, _bases: Bases) -> Application:
        return await applications.look(application)

    found, _ = order_application(choices, work)
    _print(found, as_json)
    return Code.MIRRORED


@command.command()
@click.argument("name")
@click.option("--description", help="What it is for.")
@click.option("--prompt", help="What the model is told; holds {{knowledge}} and {{user}}, each once.")
@click.option("--model", metavar="NAME", help="The model that answers.")
@click.option("--knowledge", multiple=True, metavar="ID", help=f"{KNOWLEDGE} Default: the mirror's own.")
@set_option
@json_option
@shared_options
@pass_choices
def create(
    choices: Choices,
    name: str,
    description: str | None,
    prompt: str | None,
    model: str | None,
    knowledge: tuple[str, ...],
    settings: dict[str, str],
    as_json: bool,
) -> int:
    """Make an application called NAME that answers from the mirror's knowledge base."""
    from kbsync.cli.commands.kb.account import order_application
    from kbsync.contract.answering import ApplicationWish

    async def work(applications: Applications, bases: Bases) -> Application:
        wish = ApplicationWish(name, description, prompt, model, knowledge or (bases.own,), settings)
        return await applications.create(wish)

    made, cure = order_application(choices, work)
    if as_json:
        Output().json({"application": to_json(made)})
        return Code.MIRRORED
    if not choices.quiet:
        ask_it = cure(f"ask QUESTION --app {shell_word(made.id)}")
        tell(f"{printable(name)} is made; ask it with: {ask_it}")
    Output().line(made.id)
    return Code.MIRRORED


@command.command()
@click.argument("application", metavar="ID")
@click.option("--name", help="Another name.")
@click.option("--description", help="Another description.")
@click.option("--prompt", help="Another prompt.")
@click.option("--model", metavar="NAME", help="Another model.")
@click.option("--knowledge", multiple=True, metavar="ID", help=f"{KNOWLEDGE} Those from before go.")
@set_option
@json_option
@shared_options
@pass_choices
def update(
    choices: Choices,
    application: str,
    name: str | None,
    description: str | None,
    prompt: str | None,
    model: str | None,
    knowledge: tuple[str, ...],
    settings: dict[str, str],
    as_json: bool,
) -> int:
    """Change the application ID."""
    from kbsync.cli.commands.kb.account import order_application
    from kbsync.contract.answering import ApplicationWish

    wish = ApplicationWish(name, description, prompt, model, knowledge or None, settings)
    if wish == ApplicationWish():
        raise UsageError(
            "nothing to change; give --name, --description, --prompt, --model, --knowledge or --set"
        )

    async def work(applications: Applications, _bases: Bases) -> Application:
        await applications.update(application, wish)
        return await applications.look(application)

    found, _ = order_application(choices, work)
    _print(found, as_json)
    return Code.MIRRORED


@command.command()
@click.argument("application", metavar="ID")
@click.option("--yes", metavar="NAME", help="The name of the application, instead of being asked for it.")
@json_option
@shared_options
@pass_choices
def delete(choices: Choices, application: str, yes: str | None, as_json: bool) -> int:
    """Delete the application ID, after its name was typed. Knowledge bases stay."""
    from kbsync.cli.commands.kb.account import confirm, order_application

    async def work(applications: Applications, _bases: Bases) -> Application:
        found = await applications.look(application)
        confirm(f"{found.id} is deleted", found.name or found.id, yes)
        await applications.delete(application)
        return found

    gone, _ = order_application(choices, work)
    if as_json:
        Output().json({"deleted": gone.id, "name": gone.name})
    elif not choices.quiet:
        Output().line(f"{gone.id} {printable(gone.name)} is deleted")
    return Code.MIRRORED


def to_json(application: Application) -> dict[str, Any]:
    """An application as `--json` has it."""
    return {
        "id": application.id,
        "name": application.name,
        "description": application.description,
        "model": application.model,
        "prompt": application.prompt,
        "knowledge_bases": list(application.bases),
        "settings": dict(application.settings),
    }


def _print(application: Application, as_json: bool) -> None:
    paper, found = Output(), to_json(application)
    if as_json:
        paper.json({"application": found})
        return
    found["knowledge bases"] = found.pop("knowledge_bases")
    rows = list(with_settings(found))
    width = max(17, *(len(key) + 2 for key, _ in rows))
    for key, value in rows:
        paper.line(f"{key + ':':<{width}}{_told(value)}")


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    return tuple(_told(found[key]) for key in ("id", "model", "knowledge_bases", "name"))


def _told(value: str | list[str]) -> str:
    text = ", ".join(value) if isinstance(value, list) else value
    return printable(text) or "-"
