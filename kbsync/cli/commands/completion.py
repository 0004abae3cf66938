"""`kbsync completion`: prints the completion script for a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from kbsync.cli.options import Choices, examples, shared_options
from kbsync.cli.output import Output


@click.command(
    epilog=examples(
        "mkdir -p ~/.local/share/bash-completion/completions ~/.config/fish/completions",
        "kbsync completion bash > ~/.local/share/bash-completion/completions/kbsync",
        "echo 'eval \"$(kbsync completion zsh)\"' >> ~/.zshrc",
        "kbsync completion fish > ~/.config/fish/completions/kbsync.fish",
    )
)
@click.argument("shell", metavar="SHELL", type=click.Choice(("bash", "zsh", "fish")))
@shared_options
def command(_choices: Choices, shell: str) -> None:
    """Print a script that completes commands, options and mirror names in SHELL: bash, zsh or fish.

    If zsh says `command not found: compdef`, put this before it in ~/.zshrc:
    autoload -Uz compinit && compinit
    """
    from kbsync.cli.main import kbsync

    completion = get_completion_class(shell)
    assert completion is not None
    Output().line(completion(kbsync, {}, "kbsync", "_KBSYNC_COMPLETE").source())
