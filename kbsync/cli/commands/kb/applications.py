"""`kbsync kb app`: the applications that answer questions from a service's knowledge bases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from kbsync.accounts.account import ApplicationInfo, ApplicationRequest
from kbsync.cli.commands.kb.account import open_account
from kbsync.cli.options import (
    ID,
    Choices,
    CommandGroup,
    add_options,
    examples,
    json_option,
    set_option,
    shared_options,
)
from kbsync.cli.output import Output, print_deleted, print_message, print_object, print_objects
from kbsync.cli.prompts import confirm_by_typing
from kbsync.core.text import printable, shell_word
from kbsync.errors import UsageError

_FIELDS: tuple[Callable[[Any], Any], ...] = (
    click.option("--description", help="A description of its purpose."),
    click.option("--prompt", help="The prompt; must contain {{knowledge}} and {{user}} once each."),
    click.option("--model", metavar="NAME", help="The model that answers."),
    click.option(
        "--knowledge",
        multiple=True,
        metavar="ID",
        help="The id of a knowledge base to answer from; can be repeated.",
    ),
    set_option,
)


def _field_options(function: Callable[..., Any]) -> Any:
    """Add an option for each field of `ApplicationRequest` to a command."""
    return add_options(function, _FIELDS)


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
    """Manage the applications that answer `kbsync ask`.

    Each application answers questions from one or more knowledge bases.
    """


@command.command("list")
@json_option
@shared_options
def list_applications(choices: Choices, as_json: bool) -> None:
    """List the account's applications."""
    with open_account(choices, needs_own=True) as account:
        applications = [to_json(application) for application in account.call(account.applications.list_all())]
        create = f"create one with: {account.installation.command_line_for_mirrors('kb app create NAME')}"
        hint = account.applications.hint or create
    heads = {"id": "ID", "model": "MODEL", "knowledge_bases": "KNOWLEDGE BASES", "name": "NAME"}
    print_objects("applications", heads, applications, as_json=as_json)
    if not (applications or as_json or choices.quiet):
        print_message(f"the account has no applications; {hint}")


@command.command()
@click.argument("application", metavar="ID", type=ID)
@json_option
@shared_options
def show(choices: Choices, application: str, as_json: bool) -> None:
    """Show the application with this ID."""
    with open_account(choices, needs_own=True) as account:
        info = account.call(account.applications.get(application))
    print_object("application", to_json(info), as_json=as_json)


@command.command()
@click.argument("name")
@_field_options
@json_option
@shared_options
def create(choices: Choices, name: str, knowledge: tuple[str, ...], as_json: bool, **fields: Any) -> None:
    """Create an application called NAME.

    It answers from the mirror's knowledge base, or from those that --knowledge names."""
    with open_account(choices, needs_own=True) as account:
        request = ApplicationRequest(name, bases=knowledge or (account.bases.own_id,), **fields)
        created = account.call(account.applications.create(request))
        ask_command = account.installation.command_line_for_mirrors(
            f"ask QUESTION --app {shell_word(created.id)}"
        )
    if as_json:
        Output().json({"application": to_json(created)})
        return
    if not choices.quiet:
        print_message(f"created {printable(name)}; ask it with: {ask_command}")
    Output().line(created.id)


@command.command()
@click.argument("application", metavar="ID", type=ID)
@click.option("--name", help="A new name.")
@_field_options
@json_option
@shared_options
def update(
    choices: Choices,
    application: str,
    name: str | None,
    knowledge: tuple[str, ...],
    as_json: bool,
    **fields: Any,
) -> None:
    """Change the application with this ID.

    Omitted options change nothing; --knowledge replaces all knowledge bases.
    """
    request = ApplicationRequest(name, bases=knowledge or None, **fields)
    if request == ApplicationRequest():
        raise UsageError(
            "nothing to change; pass --name, --description, --prompt, --model, --knowledge or --set"
        )
    with open_account(choices, needs_own=True) as account:
        account.call(account.applications.update(application, request))
        info = account.call(account.applications.get(application))
    print_object("application", to_json(info), as_json=as_json)


@command.command()
@click.argument("application", metavar="ID", type=ID)
@click.option("--yes", metavar="NAME", help="The application's name, to confirm without a prompt.")
@json_option
@shared_options
def delete(choices: Choices, application: str, yes: str | None, as_json: bool) -> None:
    """Delete the application with this ID, but not its knowledge bases.

    You have to type its name to confirm.
    """
    with open_account(choices, needs_own=True) as account:
        info = account.call(account.applications.get(application))
        confirm_by_typing(f"delete {info.id}", info.name or info.id, yes)
        account.call(account.applications.delete(application))
    print_deleted(info.id, info.name, as_json=as_json, quiet=choices.quiet)


def to_json(application: ApplicationInfo) -> dict[str, Any]:
    """Return an application as the object that `--json` prints."""
    return {
        "id": application.id,
        "name": application.name,
        "description": application.description,
        "model": application.model,
        "prompt": application.prompt,
        "knowledge_bases": list(application.bases),
        "settings": dict(application.settings),
    }
