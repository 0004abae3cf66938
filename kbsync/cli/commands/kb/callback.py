"""`kbsync kb callback`: the address that a service calls with the events of a whole account."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import click

from kbsync.accounts.account import Callback
from kbsync.cli.commands.kb.account import open_account
from kbsync.cli.options import Choices, CommandGroup, examples, json_option, shared_options
from kbsync.cli.output import Output, tell
from kbsync.cli.prompts import confirm_by_typing
from kbsync.config.target import is_in_the_clear
from kbsync.core.text import fits_header, printable
from kbsync.errors import UsageError

YES = "The present address, instead of being asked for it."
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")


HEADER = "A header of each call. Its value is read from FILE, or with NAME=env:VARIABLE from the environment."


@click.group(
    cls=CommandGroup,
    epilog=examples(
        "kbsync kb callback show",
        "kbsync kb callback set https://events.example.org/kb --header X-Token=@/run/secrets/token",
        "kbsync kb callback delete --yes https://events.example.org/kb",
    ),
)
@shared_options
def command() -> None:
    """Manage the address that the service calls.

    Everybody who uses the account shares it. Mirrors do not need it: each upload says where to call.
    """


@command.command()
@json_option
@shared_options
def show(choices: Choices, as_json: bool) -> None:
    """Show where the account's events are sent, and the names of the headers that are sent along."""
    with open_account(choices) as account:
        found = account.call(account.callbacks.look())
    _print(found, as_json)


@command.command("set")
@click.argument("url", metavar="URL")
@click.option("--header", "headers", multiple=True, metavar="NAME=@FILE", help=HEADER)
@click.option("--yes", metavar="URL", help=YES)
@json_option
@shared_options
def set_address(choices: Choices, url: str, headers: tuple[str, ...], yes: str | None, as_json: bool) -> None:
    """Send the account's events to URL. If they are sent elsewhere now, you have to type that address."""
    values = read_headers(headers)
    check_address(url, is_secret=bool(values))
    with open_account(choices) as account:
        _confirm(account.call(account.callbacks.look()), "send the account's events elsewhere", yes)
        account.call(account.callbacks.set_url(url, values))
        found = account.call(account.callbacks.look())
    _print(found, as_json)


@command.command()
@click.option("--yes", metavar="URL", help=YES)
@json_option
@shared_options
def delete(choices: Choices, yes: str | None, as_json: bool) -> None:
    """Stop sending the account's events. You have to type the present address."""
    with open_account(choices) as account:
        gone = account.call(account.callbacks.look())
        _confirm(gone, "stop sending the account's events", yes)
        if gone is not None:
            account.call(account.callbacks.remove())
    if as_json:
        Output().json({"deleted": None if gone is None else gone.url})
    elif not choices.quiet:
        Output().line(_NONE if gone is None else f"{printable(gone.url)} is no longer called")


_NONE = "the account has no address for its events"


def _confirm(now: Callback | None, what: str, yes: str | None) -> None:
    if now is None:
        return
    headers = f" with {', '.join(map(printable, now.headers))}" if now.headers else ""
    tell(f"the events of the whole account, not only ours, are sent to {printable(now.url)}{headers}")
    confirm_by_typing(what, now.url, yes, "present address", "URL")


def check_address(url: str, *, is_secret: bool) -> None:
    """Raise `UsageError` for what is no address, or one that would give the headers away."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not fits_header(url) or " " in url:
        raise UsageError("URL is not an address; give one such as https://events.example.org/kb")
    if parts.username is not None or parts.password is not None:
        raise UsageError("URL contains a user or password, which ps shows; use --header")
    if is_secret and is_in_the_clear(url):
        raise UsageError("URL is not https: the values of --header would be sent in the clear")


def read_headers(given: Iterable[str]) -> dict[str, str]:
    """Names and values. Raises `UsageError`, which repeats no value: it may be typed by mistake."""
    values = dict[str, str]()
    for text in given:
        name, equals, source = text.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise UsageError("--header takes NAME=@FILE or NAME=env:VARIABLE")
        if name.lower() in map(str.lower, values):
            # HTTP does not tell upper case from lower case.
            raise UsageError(f"--header {name} is given twice")
        values[name] = _value(name, source)
    return values


def _value(name: str, source: str) -> str:
    if source.startswith("@"):
        from kbsync.config.kinds import RefusedValue, Whereabouts
        from kbsync.config.reader import read_secret

        try:
            value = read_secret(source[1:], Whereabouts(Path.cwd(), None))
        except RefusedValue as reason:
            raise UsageError(f"--header {name}: {reason}") from None
    elif source.startswith("env:"):
        value = os.environ.get(source[4:], "")
    else:
        raise UsageError(
            f"--header {name}: ps would show a value on the command line; "
            f"write {name}=@FILE or {name}=env:VARIABLE"
        )
    if not fits_header(value):
        raise UsageError(f"--header {name}: its value is empty, or has characters that no header may have")
    return value


def _print(found: Callback | None, as_json: bool) -> None:
    output = Output()
    if as_json:
        fields = None
        if found is not None:
            fields = {"url": found.url, "headers": list(found.headers), "in_use": found.in_use}
        output.json({"callback": fields})
    elif found is None:
        output.line(_NONE)
    else:
        names = ", ".join(map(printable, found.headers))
        output.line(f"url:      {printable(found.url)}")
        output.line(f"headers:  {f'{names} (values not shown)' if names else '-'}")
        output.line(f"in use:   {_IN_USE[found.in_use]}")


_IN_USE = {True: "yes", False: "no", None: "?"}
