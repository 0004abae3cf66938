"""`kbsync rescan`: makes the running kbsync compare its folders with the state now."""

from __future__ import annotations

import click

from kbsync.cli.context import choose, describe_paused, find_left_out, find_paused, post
from kbsync.cli.options import Choices, complete_mirror, examples, shared_options
from kbsync.cli.output import Output
from kbsync.core.text import format_list, printable
from kbsync.errors import LockedError, UsageError
from kbsync.state import lock


@click.command(epilog=examples("kbsync rescan", "kbsync rescan notes"))
@click.argument("name", required=False, shell_complete=complete_mirror)
@shared_options
def command(choices: Choices, name: str | None) -> None:
    """Make the running kbsync compare the folder of NAME, or all folders, with its records now.

    kbsync does that automatically at the interval `rescan` (15 minutes by default) and after each start. A
    rescan finds changes that the file system didn't report, such as those on a network drive.
    """
    installation = choose(choices.with_mirror(name), here=True, with_secrets=False)
    # A kbsync in another container can't be seen.
    if lock.holding(installation.state_dir) is False:
        raise UsageError(f"kbsync isn't running; to run a pass now: {installation.command_line('--once')}")
    holder = lock.find_holder(installation.state_dir)
    if holder is not None and not holder.keeps_running:
        # A pass compares the folder once, at its beginning.
        raise LockedError(
            f"process {holder.pid} is running a single pass or another command and won't rescan; "
            f"once it has ended, run: {installation.command_line('--once')}"
        )
    paused = find_paused(installation)
    unpaused = [mirror.name for mirror in installation.mirrors if mirror.name not in paused]
    left_out = find_left_out(installation, unpaused)
    names = [name for name in unpaused if name not in left_out]
    if left_out and not names:
        raise UsageError(lock.describe_left_out(left_out))
    if not names:
        resume = installation.command_line("resume" if name is None else f"resume {name}")
        raise UsageError(f"{describe_paused(paused)}; to resume (this also rescans): {resume}")
    post(installation, [("rescan", name, {}) for name in names])
    if not choices.quiet:
        except_paused = f"; {describe_paused(paused)}" if paused else ""
        Output().line(printable(f"the running kbsync will rescan {format_list(names)} now{except_paused}"))
        if left_out:
            Output().line(lock.describe_left_out(left_out))
