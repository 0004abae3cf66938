"""`kbsync mcp`: loads nothing of the protocol before it has to."""

from __future__ import annotations

import os
import sys

import click

from kbsync.cli.context import choose
from kbsync.cli.exit_codes import Code
from kbsync.cli.options import Choices, examples, shared_options
from kbsync.cli.output import tell
from kbsync.errors import UsageError


@click.command(
    epilog=examples(
        "kbsync mcp --folder ~/notes           an assistant starts this, and talks over stdin and stdout",
        "kbsync mcp --folder ~/notes --http 127.0.0.1:9754",
        "KBSYNC_MCP_TOKEN=$(cat token) kbsync mcp --http 0.0.0.0:9754",
    )
)
@click.option("--http", metavar="ADDRESS", help="Serve over HTTP at host:port instead of stdin and stdout.")
@shared_options
def command(choices: Choices, http: str | None) -> int:
    """Let an assistant search what is mirrored, by the Model Context Protocol (MCP).

    Mirrors the folder meanwhile, unless another kbsync does. Over HTTP, clients on other machines need a
    token: $KBSYNC_MCP_TOKEN, or http.token of the config.
    """
    installation = choose(choices, here=True)
    try:
        from kbsync.cli.commands.mcp.protocol import server_of
    except ModuleNotFoundError as error:
        from kbsync import install_command

        raise UsageError(
            "the package mcp is missing; install it beside kbsync: " + install_command("mcp")
        ) from error
    from kbsync import logs
    from kbsync.cli.commands.mcp.library import Library
    from kbsync.cli.commands.mcp.opened import OpenInstallation
    from kbsync.cli.commands.mcp.serving import answer_stdio, serve

    level = choices.log_level or ("warning" if choices.quiet else installation.config.log_level or "info")
    logs.configure(style=choices.log_format, level=level)
    opened = OpenInstallation(installation)
    server = server_of(Library(opened))
    if http is None:
        answering = answer_stdio(server)
        if sys.stdin.isatty() and not choices.quiet:
            tell("an assistant starts this, and talks to it over stdin and stdout: see docs/mcp.md")
    else:
        from kbsync.cli.commands.mcp.http import answer_http, endpoint_at, listening

        endpoint = endpoint_at(http, lambda: opened.installation.config, os.environ)
        answering = answer_http(server, endpoint, listening(endpoint))
        if not choices.quiet:
            tell(f"serving {endpoint.url}")
    serve(opened, answering)
    return Code.MIRRORED
