"""`kbsync plan`: shows what a pass would do, as a readable diff."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from kbsync.cli.context import check_state_location, choose, for_each_mirror, mirrors_json, set_up_logs
from kbsync.cli.exit_codes import Code, printing_result, worst
from kbsync.cli.options import Choices, examples, json_option, shared_options
from kbsync.cli.output import LISTED, Output, first_lines, print_message
from kbsync.core.text import format_count, format_size, printable
from kbsync.threads import run_coroutine

if TYPE_CHECKING:
    from kbsync.engine.plan import MirrorPlan, Planned


@click.command(
    epilog=examples(
        "kbsync plan",
        "kbsync plan --all --folder docs",
        "kbsync plan --json | jq '.mirrors[].delete'",
    )
)
@click.option("--all", "all_lines", is_flag=True, help="Show every line.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    default=LISTED,
    show_default=True,
    help="Show at most N lines of each kind.",
)
@json_option
@shared_options
def command(choices: Choices, as_json: bool, all_lines: bool, limit: int) -> int:
    """Show what a pass would do: + new, ~ changed, > renamed, - deleted, ! held, = kept, x failed.

    Changes nothing. With --json it lists every path, regardless of the limit. If a mirror can't be planned,
    it says why and shows the others.
    """
    return plan(choices, as_json=as_json, limit=None if all_lines else limit)


def plan(choices: Choices, *, as_json: bool, limit: int | None = LISTED) -> int:
    """Plan a pass of every requested mirror, and show at most `limit` lines of each kind.

    Return PERSON if a mirror is halted, PASSING if a target doesn't respond, or an error's exit code.
    """
    from kbsync.config.target import RemoteTargetConfig
    from kbsync.engine.plan import MirrorPlan, plan_mirror

    installation = choose(choices, here=True, with_folders=True)
    check_state_location(installation, create=False)  # as a pass does
    set_up_logs(choices)
    plans, failures = run_coroutine(for_each_mirror(installation, plan_mirror))
    codes = [failure.code for failure in failures]
    codes += [Code.PERSON for planned in plans if planned.halt is not None]
    code = worst([*codes, *(Code.PASSING for planned in plans if planned.is_guess)])
    with printing_result(code):
        if as_json and plans:
            unplanned = [{**MirrorPlan(error.mirror).to_json(), "error": str(error)} for error in failures]
            Output().json(mirrors_json(installation, [*(planned.to_json() for planned in plans), *unplanned]))
        else:
            output = Output()
            for number, planned in enumerate(plans):
                if number:
                    output.line()
                # kbsync reads these documents locally and sends only passages to the index.
                target = installation.mirror(planned.name).target
                work = "to send" if isinstance(target, RemoteTargetConfig) else "to index"
                every = installation.command_line("plan --all")
                output.lines(_lines(output, planned, limit, work, every))
        for failure in failures:
            print_message(str(failure))
    return code


DESELECTED = "deselected"
"""The reason for a deletion if the file still exists but is no longer selected by any rule."""


def _lines(output: Output, plan: MirrorPlan, limit: int | None, work: str, every: str) -> Iterator[str]:
    """Yield a line for each path. Deletions and held documents have sections of their own, and the totals
    come last.

    `every`: the command that shows all lines.
    """
    from kbsync.cli.report import name_some
    from kbsync.engine.plan import RECIPE
    from kbsync.engine.status import halt_words, in_words

    def section(sign: str, items: Sequence[str], heading: str = "") -> Iterator[str]:
        if items and heading:
            yield output.dim(heading)
        yield from (f"{sign} {line}" for line in first_lines(items, every, limit=limit))

    def deleted_lines(items: Sequence[Planned]) -> list[str]:
        return [_with_size(item) for item in items if item.cause not in (DESELECTED, RECIPE)]

    def deselected(items: Sequence[Planned]) -> list[str]:
        return [_with_size(item) for item in items if item.cause == DESELECTED]

    if plan.halt is not None:
        yield output.red(
            f"{plan.name}: a pass would do nothing ({halt_words(plan.halt.reason, plan.halt.detail)})"
        )
        yield f"  {printable(in_words(plan.halt))}"
        return
    if plan.note:
        # Printed first, so that a long list doesn't hide it.
        yield output.red(f"{plan.name}: {printable(plan.note)}")
    plus, tilde, minus, held = output.green("+"), output.yellow("~"), output.red("-"), output.red("!")
    yield from section(plus, [_with_size(item) for item in plan.upload])
    yield from section(tilde, [_with_size(item) for item in plan.replace])
    reembedded = [_with_size(item) for item in plan.reembed]
    yield from section(tilde, reembedded, "reindexed, because the settings or the version of kbsync changed:")
    yield from section(output.cyan(">"), [_renamed(item) for item in plan.rename])
    yield from section(minus, deleted_lines(plan.delete))
    yield from section(minus, deselected(plan.delete), "no longer selected:")
    yield from section(held, deleted_lines(plan.held), "deletions waiting for `approve`:")
    yield from section(held, deselected(plan.held), "no longer selected, waiting for `approve`:")
    changed = [item for item in plan.held if item.cause == RECIPE]
    size = f"{format_count(len(changed), 'document')}, {format_size(sum(item.size or 0 for item in changed))}"
    why = f"to reindex with new settings ({size}), waiting for `approve`:"
    yield from section(held, [_with_size(item) for item in changed], why)
    keep, still = output.dim("="), "kept although the file is gone or excluded (deletions: never):"
    yield from section(keep, [_with_size(item) for item in plan.keep or ()], still)
    causes = dict[str, list[str]]()
    for item in plan.failed:
        causes.setdefault(item.note, []).append(item.path)
    failed = [
        f"{paths[0]}  ({why})" if len(paths) == 1 else f"{len(paths):,} files  ({why}): {name_some(paths)}"
        for why, paths in causes.items()
    ]
    yield from section(output.red("x"), list(map(printable, failed)), "cannot be mirrored:")
    yield output.bold(_totals(plan, work))


def _with_size(item: Planned) -> str:
    size = "" if item.size is None else format_size(item.size)
    cause = item.cause if item.cause == "emptied" else ""
    remarks = ", ".join(filter(None, [size, cause, item.note]))
    return printable(f"{item.path}  ({remarks})" if remarks else item.path)


def _renamed(item: Planned) -> str:
    upload_note = f"{format_size(item.size or 0)} sent again" if item.sends else ""
    remarks = ", ".join(filter(None, [upload_note, item.note]))
    if item.source in (None, item.path):
        # The file keeps its path; only the prefix of its name changes.
        return printable(f"{item.path}  ({', '.join(filter(None, ['under another prefix', remarks]))})")
    return printable(f"{item.source} → {item.path}" + (f"  ({remarks})" if remarks else ""))


def _totals(plan: MirrorPlan, work: str) -> str:
    counts = (
        (len(plan.upload), "new"),
        (len(plan.replace), "changed"),
        (len(plan.reembed), "reindexed"),
        (len(plan.rename), "renamed"),
        (len(plan.delete), "deleted"),
        (len(plan.held), "held"),
        (len(plan.keep or ()), "kept"),
        (len(plan.failed), "failed"),
    )
    parts = [f"{number:,} {label}" for number, label in counts if number] or ["nothing to do"]
    size_note = f"; {format_size(plan.bytes_to_send)} {work}" if plan.bytes_to_send else ""
    return f"{plan.name}: {', '.join(parts)}; {format_count(plan.unchanged, 'document')} unchanged{size_note}"
