"""`kbsync kb app`: the applications of a service, which answer questions from its knowledge bases."""

from __future__ import annotations

from typing import Any

import click

from kbsync.cli.commands.kb.account import open_account
from kbsync.cli.exit_codes import Code
from kbsync.cli.options import Choices, CommandGroup, examples, json_option, set_option, shared_options
from kbsync.cli.output import Output, print_deleted, print_object, print_objects, tell
from kbsync.cli.prompts import confirm_by_typing
from kbsync.contract.answering import Application, ApplicationWish
from kbsync.core.text import printable, shell_word
from kbsync.errors import UsageError

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
def list_applications(choices: Choices, as_json: bool) -> int:
    """List every application of the account."""
    with open_account(choices, needs_own=True) as account:
        found = [to_json(one) for one in account.call(account.applications.all())]
        create = account.installation.cure_for_mirrors("kb app create NAME")
    heads = {"id": "ID", "model": "MODEL", "knowledge_bases": "KNOWLEDGE BASES", "name": "NAME"}
    print_objects("applications", heads, found, as_json=as_json)
    if not (found or as_json or choices.quiet):
        tell(f"the account has no application; make one with: {create}")
    return Code.MIRRORED


@command.command()
@click.argument("application", metavar="ID")
@json_option
@shared_options
def show(choices: Choices, application: str, as_json: bool) -> int:
    """Show the application ID."""
    with open_account(choices, needs_own=True) as account:
        found = account.call(account.applications.look(application))
    print_object("application", to_json(found), as_json=as_json)
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
    with open_account(choices, needs_own=True) as account:
        bases = knowledge or (account.bases.own,)
        wish = ApplicationWish(name, description, prompt, model, bases, settings)
        made = account.call(account.applications.create(wish))
        ask_it = account.installation.cure_for_mirrors(f"ask QUESTION --app {shell_word(made.id)}")
    if as_json:
        Output().json({"application": to_json(made)})
        return Code.MIRRORED
    if not choices.quiet:
        tell(f"{printable(name)} is created; ask it with: {ask_it}")
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
    wish = ApplicationWish(name, description, prompt, model, knowledge or None, settings)
    if wish == ApplicationWish():
        raise UsageError(
            "nothing to change; give --name, --description, --prompt, --model, --knowledge or --set"
        )
    with open_account(choices, needs_own=True) as account:
        account.call(account.applications.update(application, wish))
        found = account.call(account.applications.look(application))
    print_object("application", to_json(found), as_json=as_json)
    return Code.MIRRORED


@command.command()
@click.argument("application", metavar="ID")
@click.option("--yes", metavar="NAME", help="The name of the application, instead of being asked for it.")
@json_option
@shared_options
def delete(choices: Choices, application: str, yes: str | None, as_json: bool) -> int:
    """Delete the application ID, after its name was typed. Knowledge bases stay."""
    with open_account(choices, needs_own=True) as account:
        found = account.call(account.applications.look(application))
        confirm_by_typing(f"{found.id} is deleted", found.name or found.id, yes)
        account.call(account.applications.delete(application))
    print_deleted(found.id, found.name, as_json=as_json, quiet=choices.quiet)
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
