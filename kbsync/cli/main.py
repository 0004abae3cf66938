"""Runs a command line: loads the command's module, and turns errors into messages and exit codes."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import signal
import sys
from collections.abc import Sequence

import click

from kbsync.cli.exit_codes import Code, code_of, printing_result, sentence_of
from kbsync.cli.options import Choices, GlobalOption, examples, folder_options, json_option, shared_options
from kbsync.cli.output import ignore_closed_pipe, print_error, route_messages
from kbsync.config.problems import nearest
from kbsync.core.text import path_argument, printable, shell_command
from kbsync.errors import UsageError

COMMANDS = {
    "init": "Write a commented config for a folder.",
    "add": "Add a folder to the config.",
    "remove": "Remove a folder from the config.",
    "list": "List the folders in the config.",
    "plan": "Show what a pass would do.",
    "status": "Show the state of mirrors and documents.",
    "pause": "Pause mirrors, for a time or until you resume them.",
    "resume": "Resume paused mirrors.",
    "rescan": "Compare the folders with the state now.",
    "history": "Show uploads, changes, deletions and failures.",
    "search": "Search the mirrored documents.",
    "ask": "Answer a question with citations.",
    "mcp": "Serve assistants over the Model Context Protocol.",
    "explain": "Explain why search does or doesn't find a file.",
    "verify": "Compare the folder, the state and the knowledge base.",
    "retry": "Retry failed documents.",
    "approve": "Approve held deletions and changes.",
    "forget": "Forget a mirror.",
    "kb": "Manage knowledge bases at a target.",
    "state": "Back up the state or discard damaged files.",
    "doctor": "Check everything kbsync needs.",
    "completion": "Print a completion script for your shell.",
}
"""Every command with its line in `--help`; its code is `command` in `kbsync.cli.commands.<name>`."""

SECTIONS = {
    "Getting started": ("init", "plan", "doctor"),
    "Folders": ("add", "remove", "list", "pause", "resume", "rescan"),
    "Every day": ("status", "history", "search", "ask", "mcp"),
    "When something is wrong": ("explain", "verify", "retry", "approve"),
    "Maintenance": ("forget", "kb", "state", "completion"),
}
"""The order of `--help`."""

FIRST_OPTIONS = {
    "--once": "Run one full pass, then exit.",
    "--folder DIR": "Use this folder; no config needed.",
    "…": "All options and the exit codes: kbsync help options",
}
"""The options in `--help`."""

EXIT_CODES = {
    "0": "mirrored: every selected file is searchable",
    "1": "some documents failed",
    "2": "wrong usage or config",
    "3": "needs your decision",
    "4": "temporary problem, try again",
    "130, 143": "interrupted",
}
"""The exit codes in `kbsync help options`."""


NEAR_MISS = 0.75
"""Minimum similarity for a suggestion: `serch` suggests `search`, but `version` doesn't suggest `verify`."""


_QUIET = ("-q", "--quiet")
"""Options to omit from a suggested command, because its output may be longer."""

_COMMAND_LINE = "kbsync.command_line"
"""The key in click's context for the words that the user typed after `kbsync`."""

MODULES = {"kb": "kb.bases", "doctor": "doctor.command", "mcp": "mcp.command"}
"""Commands that have their own package."""


class LazyCommands(click.Group):
    """Loads one command at a time, because `search` must not wait for imports that only the daemon needs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember the command line for suggestions, then parse it."""
        ctx.meta[_COMMAND_LINE] = tuple(args)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"kbsync.cli.commands.{MODULES.get(cmd_name, cmd_name)}")
        loaded: click.Command = module.command
        return loaded

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Add the commands, without loading them, and then the main options to the `--help` text.

        The whole text fits on one screen.
        """
        width = max(map(len, COMMANDS))
        formatter.write_paragraph()
        for title, names in SECTIONS.items():
            formatter.write(f"{title}:\n")
            formatter.write("".join(f"  {name.ljust(width)}  {COMMANDS[name]}\n" for name in names))
        formatter.write_paragraph()
        formatter.write("Options:\n")
        formatter.indent()
        formatter.write_dl([(name.ljust(width), text) for name, text in FIRST_OPTIONS.items()])
        formatter.dedent()

    def format_all_options(self, ctx: click.Context) -> str:
        """Return the output of `kbsync help options`: every option and the exit codes."""
        formatter = ctx.make_formatter()
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        of_commands = [item for item in options if isinstance(item, GlobalOption) or "--help" in item.opts]
        of_a_pass = [option for option in options if option not in of_commands]
        for title, chosen in (("Options for every command", of_commands), ("Options for a pass", of_a_pass)):
            with formatter.section(title):
                # Click's own method, because `GlobalOption` hides its record from the `--help` of commands.
                records = (click.Option.get_help_record(option, ctx) for option in chosen)
                formatter.write_dl([record for record in records if record is not None])
        with formatter.section("Exit codes"):
            formatter.write_dl(list(EXIT_CODES.items()))
        return formatter.getvalue().strip()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was typed. `help` shows the same text as `--help`."""
        if args[0] == "help" and not ctx.resilient_parsing:
            _, topics, _ = self.make_parser(ctx).parse_args(args[1:])  # global options make no difference
            if topics[:1] in ([], ["options"]):
                click.echo(self.format_all_options(ctx) if topics else ctx.get_help(), color=ctx.color)
                ctx.exit()
            args = [*topics, "--help"]
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            raise _unknown(ctx, args)
        name, resolved, rest = super().resolve_command(ctx, args)
        if any(ctx.params.get(flag) for flag in ("once", "as_json", "dry_run")) and resolved is not None:
            # Report an invalid option of the command before a misplaced global option.
            resolved.make_context(name, list(rest), parent=ctx, resilient_parsing=True)
        return name, resolved, rest


def _unknown(ctx: click.Context, args: Sequence[str]) -> click.UsageError:
    """Return the error for an unknown command, which is the first of `args`.

    The error suggests the most similar command or, for a folder, the command line that mirrors it.
    """
    name, *after = args
    if os.path.isdir(name):  # noqa: PTH112 (pathlib is slow to load)
        before = ctx.meta[_COMMAND_LINE][: -len(args)]
        if {word.partition("=")[0] for word in (*before, *after)} & {"--config", "--folder"}:
            before, after = ["--once"] if ctx.params.get("once") else [], []
        words = ("kbsync", *before, "--folder", path_argument(name), *after)
        line = shell_command(word for word in words if word not in _QUIET)
        return click.UsageError(f"{printable(name)} is a folder, not a command; to mirror it: {line}")
    suggestion = nearest(name, COMMANDS, alike=NEAR_MISS)
    hint = f"Did you mean {suggestion!r}?" if suggestion else f"Commands are: {', '.join(COMMANDS)}."
    return click.UsageError(f"No such command {name!r}. {hint}", ctx)


@click.group(
    cls=LazyCommands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="[COMMAND] [ARGS]…",
    epilog=examples("kbsync --once --folder docs && kbsync search 'how do I …' --folder docs"),
)
@click.option("--once", is_flag=True, help="Run one full pass, then exit.")
@json_option
@click.option(
    "--dry-run", is_flag=True, help="With --once: only show what the pass would do, as `plan` does."
)
@folder_options
@shared_options
@click.pass_context
def kbsync(ctx: click.Context, choices: Choices, once: bool, as_json: bool, dry_run: bool) -> int | None:
    """\b
    Keep a folder of documents mirrored into a knowledge base.
    Without a command or --once, watch every mirror until you stop it.
    """
    # The `Signals` of the daemon and of a pass unblock the rest. Only the daemon reloads on SIGHUP.
    if ctx.invoked_subcommand is not None or once:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    if ctx.invoked_subcommand is not None or dry_run:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    flags = {"--once": once, "--json": as_json, "--dry-run": dry_run}
    if ctx.invoked_subcommand is not None:
        _refuse(ctx, flags, ctx.invoked_subcommand)
        return None
    if not once:
        _refuse(ctx, flags, "COMMAND")
        from kbsync.cli.commands.watch import watch

        return watch(choices)
    if dry_run:
        from kbsync.cli.commands.plan import plan

        return plan(choices, as_json=as_json)
    from kbsync.cli.commands.once import once as one_pass

    return one_pass(choices, as_json=as_json)


def _refuse(ctx: click.Context, flags: dict[str, bool], command: str) -> None:
    """Raise `click.UsageError` for the first option that needs a pass, because no pass was requested."""
    choices = ctx.ensure_object(Choices)
    if command != "COMMAND":
        for option in ("target", "url", "base", "exclude"):
            if getattr(choices, option) is not None:
                once = f"`kbsync --once --folder DIR --{option} …`"
                remembered = f"run {once}, then `kbsync {command} --folder DIR`"
                raise click.UsageError(f"--{option} takes no command; {remembered}", ctx)
    instead = {
        "--once": (
            f"can't be combined with a command; run `{choices.typed('--once')}`, then `kbsync {command} …`"
        ),
        "--json": f"needs --once or goes after a command: kbsync {command} … --json",
        "--dry-run": f"needs --once and takes no command; otherwise, run: {choices.typed('plan')}",
    }
    for flag, is_set in flags.items():
        if is_set:
            raise click.UsageError(f"{flag} {instead[flag]}", ctx)


def run_cli(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code. Raises nothing except `SystemExit` from click's
    completion."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        # Otherwise the next opened file would take the place of a closed stream (`2>&-`).
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (for the process's life)
    for stream in (sys.stdout, sys.stderr):
        # A document may contain a character that the locale can't encode.
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")
    try:
        return _run(arguments)
    finally:
        for stream in (sys.stdout, sys.stderr):
            # The error was already reported. Drop unwritten output, or Python would try to write it again at
            # exit.
            with contextlib.suppress(OSError), ignore_closed_pipe(stream):
                stream.flush()
        route_messages(None)


def _hint_at_query(error: click.UsageError, arguments: Sequence[str]) -> str:
    """Return an explanation of how to search for a word that begins with a hyphen, or "" if `error` can't
    be about such a word.
    """
    command = "" if error.ctx is None else error.ctx.info_name
    if error.ctx is None or command not in ("search", "ask"):
        return ""
    if not isinstance(error, click.NoSuchOption | click.BadParameter):
        return ""
    if isinstance(error, click.NoSuchOption) and error.option_name.startswith("--"):
        return ""
    position = arguments.index(command) + 1 if command in arguments else 0
    options, words = _split_query(error.ctx.command, arguments[position:])
    if not any(re.match(r"-[^\W\d]{2}|-\"", word) for word in words):
        return ""
    hint, query = "; put -- before a query with a word that begins with a minus sign", " ".join(words)
    if command == "search":
        from kbsync.contract.query_syntax import parse_query
        from kbsync.contract.searching import Query

        try:
            parse_query(Query(query))
        except UsageError as problem:
            return printable(f"{hint}; {problem}")
    line = shell_command(("kbsync", *arguments[:position], *options, "--", query))
    return printable(f"{hint}: {line}")


def _split_query(command: click.Command, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return a command's options (except -q), with their values, and its other arguments, including
    misspelled options.
    """
    takes_value = {
        name: not option.is_flag
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
    }
    options, words, rest = list[str](), list[str](), list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return options, words + rest
        name = word.partition("=")[0] if word.startswith("--") else word
        if word in _QUIET:
            continue
        if name in takes_value:
            options.append(word)
            if takes_value[name] and word == name:
                options += [rest.pop(0)] if rest else []
        elif takes_value.get(word[:2]) and word[2:].isdecimal():
            options.append(word)  # such as -k3
        else:
            words.append(word)
    return options, words


def _run(arguments: Sequence[str]) -> int:
    """Return the exit code that the command returned. None means success."""
    try:
        code_or_none = kbsync.main(
            list(arguments), prog_name="kbsync", complete_var="_KBSYNC_COMPLETE", standalone_mode=False
        )
        code = Code(code_or_none or 0)
        with printing_result(code), ignore_closed_pipe(sys.stdout):
            # If this fails, for example on a full disk, a script would read truncated output.
            sys.stdout.flush()
        return code
    except SystemExit as end:
        if end.code != 1:
            raise  # of a signal
        # click printed help or the version, and the reader of stdout is gone.
        return Code.MIRRORED
    except click.UsageError as error:
        # On one line, even if click would print a list below it.
        message = " ".join(error.format_message().split()).rstrip(".")
        message += _hint_at_query(error, arguments)
        see = " See: " if message.endswith("?") else "; see: "
        print_error(message if error.ctx is None else f"{message}{see}{error.ctx.command_path} --help")
        return Code.USAGE
    except click.ClickException as error:
        print_error(error.format_message())
        return Code.USAGE
    except (click.Abort, KeyboardInterrupt):
        return Code.INTERRUPTED
    except Exception as error:
        error_code = code_of(error)
        if error_code is None:
            print_error("this is a bug in kbsync; please report it with the traceback above", error)
            return Code.BROKEN
        print_error(sentence_of(error))
        return error_code
