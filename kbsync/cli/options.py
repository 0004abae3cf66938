"""Options that several commands share.

Options that every command has may come before or after the command's name.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from kbsync import version_and_revision
from kbsync.core.text import path_argument, printable, shell_command
from kbsync.dataclass import dataclass
from kbsync.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
LEVELS = ("debug", "info", "warning", "error")


@dataclass(slots=True)
class Choices:
    """The values of the shared options. Options that weren't given are None; paths are as typed."""

    config: Path | None = None
    folder: Path | None = None
    state_dir: Path | None = None
    mirrors: tuple[str, ...] = ()
    log_format: str | None = None
    log_level: str | None = None
    quiet: bool = False
    target: str | None = None
    url: str | None = None
    base: str | None = None
    exclude: tuple[str, ...] | None = None

    def with_mirror(self, name: str | None) -> Choices:
        """Return these choices with the mirror that was given as the command's argument, if any."""
        return self if name is None else replace(self, mirrors=(*self.mirrors, name))

    def refuse_folder(self, command: str) -> None:
        """Raise `UsageError` if the folder is given as an option, because this command takes it as an
        argument.
        """
        if self.folder is not None:
            argument = shlex.quote(path_argument(str(self.folder)))
            correction = replace(self, folder=None).typed(f"{command} {argument}")
            raise UsageError(f"pass the folder as an argument: {correction}")

    def typed(self, command: str) -> str:
        """Return a command line that users can paste, for messages that are printed before a config is
        read.
        """
        options = {"--config": self.config, "--folder": self.folder, "--state-dir": self.state_dir}
        words = ["kbsync", *shlex.split(command)]
        for name, path in options.items():
            if path is not None:
                words += [name, os.path.abspath(path.expanduser())]  # noqa: PTH100 (symlinks stay as typed)
        return shell_command([*words, *(word for name in self.mirrors for word in ("--mirror", name))])


class PathArgument(click.Path):
    """The type of an option or argument that takes a path.

    An empty path, for example from an unset variable, is an error. It doesn't mean the working directory.
    """

    def __init__(self, *, is_folder: bool) -> None:
        super().__init__(path_type=Path, file_okay=not is_folder, readable=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path. `~` is expanded even where the shell doesn't, as in `--config=~/kbsync.yaml`."""
        text = os.fsdecode(value)
        if not text or "\0" in text:
            self.fail("is empty" if not text else "contains a NUL character", param, ctx)
        return Path(os.path.expanduser(text))  # noqa: PTH111 (an unknown ~user is a name)


FOLDER, FILE = PathArgument(is_folder=True), PathArgument(is_folder=False)


class _DocumentArgument(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the path as typed. Don't access it, because it may be on a dead network mount."""
        if not value:
            self.fail("is empty", param, ctx)  # as in `PathArgument`
        return os.fsdecode(value)


DOCUMENT = _DocumentArgument(readable=False)
"""A file in a mirror. The command, not click, checks whether it is readable."""


class _IdArgument(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id. It becomes part of a URL, where an empty id or a slash would mean something else."""
        text = str(value)
        if not re.fullmatch(r"[^\W_][\w.:~-]*", text, re.ASCII):
            self.fail(f"'{printable(text)}' is not an id" if text else "is empty", param, ctx)
        return text


ID = _IdArgument()
"""The id of something at a service."""

ONCE = ("config", "folder", "state_dir")
"""Options that take one path. Two different values are an error: kbsync never silently ignores one."""

pass_choices = click.make_pass_decorator(Choices, ensure=True)


def _keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Store a value.

    An option given after the command overrides one given before it, unless its value is a path.
    """
    choices = ctx.ensure_object(Choices)
    assert parameter.name is not None
    if parameter.name in ONCE:
        earlier = getattr(choices, parameter.name)
        paths = dict.fromkeys((*([] if earlier is None else [earlier]), *value))
        if len(paths) > 1:
            conflicting = " and ".join(printable(str(path)) for path in paths)
            raise click.BadParameter(f"takes one path, not {conflicting}", ctx, parameter)
        setattr(choices, parameter.name, next(iter(paths), None))
    elif parameter.name == "mirrors":
        choices.mirrors += tuple(name for name in value if name not in choices.mirrors)
    elif value not in (None, False, ()):
        setattr(choices, parameter.name, value)


def as_typed(
    _ctx: click.Context | None, _parameter: click.Parameter | None, words: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the words of a query.

    Python decodes all arguments as UTF-8, but a terminal encodes them in the locale's encoding.
    """
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        import locale

        return tuple(os.fsencode(word).decode(locale.getencoding(), "surrogateescape") for word in words)
    return words


def complete_mirror(ctx: click.Context, _parameter: click.Parameter, prefix: str) -> list[str]:
    """Return the names of the mirrors, if the config can be read."""
    from kbsync.cli.context import mirror_names

    return [name for name in mirror_names(ctx.ensure_object(Choices)) if name.startswith(prefix)]


class GlobalOption(click.Option):
    """An option that all commands share. `--help` has a single line for all of these (`FoldedOptions`)."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return nothing, because `kbsync help options` already shows this help."""
        return None


class FoldedOptions(GlobalOption):
    """The global option whose line in `--help` represents all global options."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the line for the help."""
        return "…", "--folder, --mirror, -q, …: kbsync help options"


def _option(*names: str, **settings: Any) -> Callable[[F], F]:
    return click.option(*names, expose_value=False, callback=_keep, **settings)


_global_option = functools.partial(_option, cls=GlobalOption)


class CommandGroup(click.Group):
    """A command that does nothing by itself and requires a subcommand."""

    def __init__(self, *names: Any, **settings: Any) -> None:
        @click.pass_context
        def require_command(ctx: click.Context) -> None:
            if ctx.invoked_subcommand is None:
                raise click.UsageError(f"choose one of: {', '.join(self.list_commands(ctx))}", ctx)

        settings |= {"callback": require_command, "invoke_without_command": True}
        super().__init__(*names, **settings)
        self.subcommand_metavar = "COMMAND [ARGS]…"


_SHARED: tuple[Callable[[Any], Any], ...] = (
    _global_option("--config", type=FILE, multiple=True, metavar="FILE", help="Use this config."),
    _global_option(
        "--folder",
        type=FOLDER,
        multiple=True,
        metavar="DIR",
        help="Use this folder's mirror; if there is none, mirror the folder into a built-in knowledge base.",
    ),
    _global_option("--state-dir", type=FOLDER, multiple=True, metavar="DIR", help="Keep the state in DIR."),
    _global_option(
        "--mirror",
        "mirrors",
        multiple=True,
        metavar="NAME",
        shell_complete=complete_mirror,
        help="Only this mirror; can be repeated.",
    ),
    _global_option(
        "--log-format",
        type=click.Choice(("console", "json")),
        help="Log format; default: console on a terminal, otherwise json.",
    ),
    _global_option("--log-level", type=click.Choice(LEVELS), help="Log this level and above."),
    _global_option("-q", "--quiet", is_flag=True, help="Print only what needs your attention."),
    click.version_option(version_and_revision(), cls=FoldedOptions, message="kbsync %(version)s"),
)


def add_options(function: Callable[..., Any], options: Sequence[Callable[[Any], Any]]) -> Any:
    """Add options to a command. `--help` shows them in this order."""
    for option in reversed(options):
        function = option(function)
    return function


def shared_options(function: Callable[..., Any]) -> Any:
    """Add the shared options to a command. The command gets their `Choices` as its first argument."""
    return add_options(pass_choices(function), _SHARED)


_FOLDER_OPTIONS = (
    _option(
        "--target", metavar="TYPE", help="With --folder: the type of its knowledge base; default: local."
    ),
    _option("--url", metavar="URL", help="With --target: the URL of the service."),
    _option("--base", metavar="ID", help="With --target: the id of the knowledge base."),
    _option(
        "--exclude",
        metavar="GLOB",
        multiple=True,
        help="With --folder: exclude these files (gitignore syntax); can be repeated.",
    ),
)


def folder_options(function: Callable[..., Any]) -> Any:
    """Add the options for a folder without a config to a command. Their values go into its `Choices`."""
    return add_options(function, _FOLDER_OPTIONS)


def examples(*lines: str) -> str:
    """Return examples for the end of a help text, one command per line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _pairs(_ctx: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    pairs = dict[str, str]()
    for text in value:
        key, equals, setting = text.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE")
        if key in pairs:
            raise click.BadParameter(f"{key} is set twice")
        pairs[key] = setting
    return pairs


set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_pairs,
    help="Set a service option; an unknown KEY lists them all. Can be repeated.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


class ParsedOption(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    """A time that `read` parses from text.

    If `read` raises `ValueError`, the message of the error is shown.
    """

    name = "time"

    def __init__(self, read: Callable[[str], float]) -> None:
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the parsed value, such as a number of seconds."""
        if isinstance(value, float):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _read_moment(text: str) -> float:
    from kbsync.config.kinds import read_since  # imported late: `--help` needs no config

    return read_since(text)


MOMENT = ParsedOption(_read_moment)

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--path", metavar="GLOB", help="Only documents whose path matches (gitignore syntax)."),
    click.option(
        "--type",
        "types",
        multiple=True,
        metavar="EXT",
        help="Only files with this extension; can be repeated.",
    ),
    click.option(
        "--after",
        type=MOMENT,
        metavar="TIME",
        help="Only files changed since this time: a date, `yesterday`, or a duration such as 1d.",
    ),
)


def selection_options(function: Callable[..., Any]) -> Any:
    """Add `--path`, `--type` and `--after` to a command.

    The command gets their values as the argument `selection`.
    """

    @functools.wraps(function)
    def with_selection(
        *positional: Any, path: str | None, types: Sequence[str], after: float | None, **others: Any
    ) -> Any:
        from kbsync.contract.searching import Query, parse_types  # imported late: few commands search

        paths = () if path is None else (path,)
        selection = Query("", paths=paths, types=parse_types(types), after=after)
        return function(*positional, selection=selection, **others)

    return add_options(with_selection, _OPTIONS)
