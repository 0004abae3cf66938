"""`kbsync kb callback`: manages the URL to which a service sends all events of an account."""

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
from kbsync.cli.output import Output, print_message
from kbsync.cli.prompts import confirm_by_typing
from kbsync.config.target import is_in_the_clear
from kbsync.core.text import fits_header, printable
from kbsync.errors import UsageError

YES = "The current callback URL, to confirm without a prompt."
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")


HEADER = (
    "A header to send with each call. FILE contains its value; NAME=env:VARIABLE reads it from the "
    "environment."
)


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
    """Manage the account's callback URL.

    All users of the account share this URL. Mirrors don't need it, because each upload specifies its own.
    """


@command.command()
@json_option
@shared_options
def show(choices: Choices, as_json: bool) -> None:
    """Show where the service sends the account's events.

    Includes the names of the headers, but not their values."""
    with open_account(choices) as account:
        callback = account.call(account.callbacks.get())
    _print(callback, as_json)


@command.command("set")
@click.argument("url", metavar="URL")
@click.option("--header", "headers", multiple=True, metavar="NAME=@FILE", help=HEADER)
@click.option("--yes", metavar="URL", help=YES)
@json_option
@shared_options
def set_address(choices: Choices, url: str, headers: tuple[str, ...], yes: str | None, as_json: bool) -> None:
    """Send the account's events to URL. If another address is set, you have to type it to confirm."""
    values = read_headers(headers)
    check_address(url, is_secret=bool(values))
    with open_account(choices) as account:
        _confirm(account.call(account.callbacks.get()), "send the account's events elsewhere", yes)
        account.call(account.callbacks.set_url(url, values))
        callback = account.call(account.callbacks.get())
    _print(callback, as_json)


@command.command()
@click.option("--yes", metavar="URL", help=YES)
@json_option
@shared_options
def delete(choices: Choices, yes: str | None, as_json: bool) -> None:
    """Stop sending the account's events. You have to type the current address to confirm."""
    with open_account(choices) as account:
        callback = account.call(account.callbacks.get())
        _confirm(callback, "stop sending the account's events", yes)
        if callback is not None:
            account.call(account.callbacks.remove())
    if as_json:
        Output().json({"deleted": None if callback is None else callback.url})
    elif not choices.quiet:
        Output().line(_NONE if callback is None else f"the service no longer calls {printable(callback.url)}")


_NONE = "the account has no callback URL"


def _confirm(current: Callback | None, action: str, yes: str | None) -> None:
    if current is None:
        return
    headers = f" with {', '.join(map(printable, current.headers))}" if current.headers else ""
    print_message(
        "the service sends all of the account's events, not only kbsync's, to "
        f"{printable(current.url)}{headers}"
    )
    confirm_by_typing(action, current.url, yes, "current address", "URL")


def check_address(url: str, *, is_secret: bool) -> None:
    """Raise `UsageError` for an address that is invalid or would expose the headers."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not fits_header(url) or " " in url:
        raise UsageError("URL isn't valid; use one such as https://events.example.org/kb")
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "URL contains a username or password, which other users can see with ps; use --header"
        )
    if is_secret and is_in_the_clear(url):
        raise UsageError("URL doesn't use https, so the values of --header would be sent unencrypted")


def read_headers(options: Iterable[str]) -> dict[str, str]:
    """Parse the headers.

    A `UsageError` doesn't quote the value, because it may be a secret typed by mistake.
    """
    values = dict[str, str]()
    for text in options:
        name, equals, source = text.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise UsageError("--header takes NAME=@FILE or NAME=env:VARIABLE")
        if name.lower() in map(str.lower, values):
            # HTTP ignores the case of header names.
            raise UsageError(f"--header {name} appears twice")
        values[name] = _value(name, source)
    return values


def _value(name: str, source: str) -> str:
    if source.startswith("@"):
        from kbsync.config.kinds import RefusedValue
        from kbsync.config.reader import PathBase, read_secret

        try:
            value = read_secret(source[1:], PathBase(Path.cwd(), None))
        except RefusedValue as reason:
            raise UsageError(f"--header {name}: {reason}") from None
    elif source.startswith("env:"):
        value = os.environ.get(source[4:], "")
    else:
        raise UsageError(
            f"--header {name}: other users could see a value on the command line with ps; write "
            f"{name}=@FILE or {name}=env:VARIABLE"
        )
    if not fits_header(value):
        raise UsageError(
            f"--header {name}: the value is empty or contains characters that aren't allowed in a header"
        )
    return value


def _print(callback: Callback | None, as_json: bool) -> None:
    output = Output()
    if as_json:
        fields = None
        if callback is not None:
            fields = {"url": callback.url, "headers": list(callback.headers), "in_use": callback.in_use}
        output.json({"callback": fields})
    elif callback is None:
        output.line(_NONE)
    else:
        names = ", ".join(map(printable, callback.headers))
        output.line(f"url:      {printable(callback.url)}")
        output.line(f"headers:  {f'{names} (values not shown)' if names else '-'}")
        output.line(f"in use:   {_IN_USE[callback.in_use]}")


_IN_USE = {True: "yes", False: "no", None: "?"}
