"""`kbsync mcp`: serves assistants. It imports the MCP package only when needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from kbsync.cli.context import choose
from kbsync.cli.exit_codes import Code
from kbsync.cli.options import Choices, examples, shared_options
from kbsync.cli.output import print_message
from kbsync.errors import UsageError

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server
    from starlette.types import ASGIApp

    from kbsync.engine.clock import RunQuery
    from kbsync.search import OpenMirrors


@click.command(
    epilog=examples(
        "kbsync mcp --folder ~/notes  # over stdin and stdout",
        "kbsync mcp --folder ~/notes --http 127.0.0.1:9754",
        "KBSYNC_MCP_TOKEN=$(cat token) kbsync mcp --http 0.0.0.0:9754",
    )
)
@click.option("--http", metavar="ADDRESS", help="Serve over HTTP at host:port instead of stdin and stdout.")
@shared_options
def command(choices: Choices, http: str | None) -> int:
    """Let an assistant search your mirrors over the Model Context Protocol (MCP).

    Also mirrors the folder, unless another kbsync already does. Over HTTP, clients on other machines need a
    token: $KBSYNC_MCP_TOKEN, or http.token in the config.
    """
    installation = choose(choices, here=True, with_folders=True)
    build_server = load_protocol()
    from kbsync import logs
    from kbsync.cli.commands.mcp.library import Library
    from kbsync.cli.commands.mcp.open_mirrors import OpenInstallation
    from kbsync.cli.commands.mcp.serving import answer_stdio, serve

    level = choices.log_level or ("warning" if choices.quiet else installation.config.log_level or "info")
    logs.configure(style=choices.log_format, level=level)
    open_mirrors = OpenInstallation(installation)
    if http is None:
        answering = answer_stdio(build_server(Library(open_mirrors)))
        if sys.stdin.isatty() and not choices.quiet:
            print_message(
                "an assistant starts this command and talks to it over stdin and stdout; see docs/mcp.md"
            )
    else:
        from kbsync.cli.commands.mcp.http import McpEndpoint, answer_http

        endpoint = McpEndpoint.at(http, lambda: open_mirrors.installation.config, os.environ)
        answering = answer_http(open_mirrors, endpoint, endpoint.listen())
        if not choices.quiet:
            print_message(f"serving {endpoint.url}")
    serve(open_mirrors, answering)
    return Code.MIRRORED


def assistant_app(open_mirrors: OpenMirrors, run_query: RunQuery) -> ASGIApp:
    """Return the application that serves assistants over HTTP.

    Raises `UsageError` if the MCP package is missing.
    """
    build_server = load_protocol()
    from kbsync.cli.commands.mcp.http import AssistantApp
    from kbsync.cli.commands.mcp.library import Library

    return AssistantApp(build_server(Library(open_mirrors), run_query))


def load_protocol() -> Callable[..., Server[Any]]:
    """Import the MCP server. Raises `UsageError` if its package is missing."""
    try:
        from kbsync.cli.commands.mcp.protocol import build_server
    except ModuleNotFoundError as error:
        from kbsync import install_command

        raise UsageError(
            f"the mcp package is missing; install it alongside kbsync: {install_command('mcp')}"
        ) from error
    return build_server
