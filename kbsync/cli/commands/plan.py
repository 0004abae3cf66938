"""`kbsync plan`: what a pass would do, as a readable diff."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from kbsync.cli.context import choose, of_each_mirror, set_up_logs
from kbsync.cli.exit_codes import Code
from kbsync.cli.options import Choices, examples, json_option, shared_options
from kbsync.cli.output import Output, Style, counted
from kbsync.core.text import printable, sized

if TYPE_CHECKING:
    from kbsync.engine.plan import MirrorPlan, Planned


@click.command(
    epilog=examples(
        "kbsync plan",
        "kbsync plan --folder docs --limit 20",
        "kbsync plan --json | jq '.mirrors[].delete'",
    )
)
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Show at most N lines of each kind.")
@json_option
@shared_options
def command(choices: Choices, as_json: bool, limit: int | None) -> int:
    """Show what a pass would do: + new, ~ changed, > renamed, - deleted, ! held. Changes nothing.

    With --json every path is listed, whatever the limit.
    """
    return plan(choices, as_json=as_json, limit=limit)


def plan(choices: Choices, *, as_json: bool, limit: int | None) -> int:
    """Plan a pass of every mirror asked for. PERSON where one is halted."""
    import asyncio

    from kbsync.engine.plan import plan_mirror

    installation = choose(choices, here=True)
    set_up_logs(choices)
    plans = asyncio.run(of_each_mirror(installation, plan_mirror))
    if as_json:
        Output().json({"mirrors": [each.to_json() for each in plans]})
    else:
        embedded = {
            each.name for each in installation.mirrors if installation.embedded_base(each) is not None
        }
        print_plans(Output(), plans, limit, embedded)
    return Code.PERSON if any(each.halt is not None for each in plans) else Code.MIRRORED


DESELECTED = "deselected"
"""Why a document is deleted: its file is there, but no rule selects it any more."""


@dataclass(frozen=True, slots=True)
class DiffSection:
    """Lines of one kind: each begins with `sign`; `heading` stands above them unless it is ''."""

    sign: str
    style: Style
    items: Sequence[Planned]
    write: Callable[[Planned], str]
    heading: str = ""


def print_plans(
    output: Output, plans: Sequence[MirrorPlan], limit: int | None, embedded: Collection[str]
) -> None:
    """One plan below another. `embedded`: mirrors whose documents are indexed here and sent nowhere."""
    for number, plan in enumerate(plans):
        if number:
            output.line()
        for line in _lines(output, plan, limit, "to index" if plan.name in embedded else "to send"):
            output.line(line)


def _lines(output: Output, plan: MirrorPlan, limit: int | None, work: str) -> Iterator[str]:
    """A line for each path, what is deleted and held apart, totals last."""
    if plan.halt is not None:
        cure = f"; then: {plan.halt.cure}" if plan.halt.cure else ""
        yield output.red(f"{plan.name}: nothing would be done ({plan.halt.reason})")
        yield f"  {printable(plan.halt.detail + cure)}"
        return
    for section in _sections(output, plan):
        if section.items and section.heading:
            yield output.dim(section.heading)
        for item in section.items[:limit]:
            yield f"{section.style(section.sign)} {section.write(item)}"
        if limit is not None and len(section.items) > limit:
            yield f"{section.style(section.sign)} … and {len(section.items) - limit:,} more"
    if plan.failed:
        yield output.dim("cannot be mirrored:")
    for left_out in plan.failed[:limit]:
        yield f"{output.red('x')} {printable(left_out.path)}  ({printable(left_out.reason)})"
    if limit is not None and len(plan.failed) > limit:
        yield f"{output.red('x')} … and {len(plan.failed) - limit:,} more"
    if plan.note:
        yield f"{plan.name}: {printable(plan.note)}"
    yield output.bold(_totals(plan, work))


def _sections(output: Output, plan: MirrorPlan) -> Iterator[DiffSection]:
    from kbsync.engine.plan import RECIPE

    def gone(items: Sequence[Planned]) -> list[Planned]:
        return [item for item in items if item.cause not in (DESELECTED, RECIPE)]

    def deselected(items: Sequence[Planned]) -> list[Planned]:
        return [item for item in items if item.cause == DESELECTED]

    yield DiffSection("+", output.green, plan.upload, _with_size)
    yield DiffSection("~", output.yellow, plan.replace, _with_size)
    yield DiffSection("~", output.yellow, plan.reembed, _with_size, "indexed again, as settings changed:")
    yield DiffSection(">", output.cyan, plan.rename, _renamed)
    yield DiffSection("-", output.red, gone(plan.delete), _with_size)
    yield DiffSection("-", output.red, deselected(plan.delete), _with_size, "no longer selected:")
    why = "deletions that wait for `approve`:"
    yield DiffSection("!", output.red, gone(plan.held), _with_size, why)
    why = "no longer selected, and waiting for `approve`:"
    yield DiffSection("!", output.red, deselected(plan.held), _with_size, why)
    changed = [item for item in plan.held if item.cause == RECIPE]
    size = f"{counted(len(changed), 'document')}, {sized(sum(item.size for item in changed))}"
    why = f"to be indexed again as settings changed ({size}), waiting for `approve`:"
    yield DiffSection("!", output.red, changed, _with_size, why)


def _with_size(item: Planned) -> str:
    remarks = [sized(item.size), *([item.cause] if item.cause == "emptied" else []), item.note]
    return printable(f"{item.path}  ({', '.join(filter(None, remarks))})")


def _renamed(item: Planned) -> str:
    sent = f"{sized(item.size)} sent again" if item.sends else ""
    remarks = ", ".join(filter(None, [sent, item.note]))
    if item.source in (None, item.path):  # only the prefix before it is another
        return printable(f"{item.path}  ({', '.join(filter(None, ['under another prefix', remarks]))})")
    return printable(f"{item.source} → {item.path}" + (f"  ({remarks})" if remarks else ""))


def _totals(plan: MirrorPlan, work: str) -> str:
    counts = (
        (len(plan.upload), "new"),
        (len(plan.replace), "changed"),
        (len(plan.reembed), "indexed again"),
        (len(plan.rename), "renamed"),
        (len(plan.delete), "deleted"),
        (len(plan.held), "held"),
        (len(plan.failed), "failed"),
    )
    parts = [f"{number:,} {word}" for number, word in counts if number] or ["nothing to do"]
    sent = f"; {sized(plan.bytes_to_send)} {work}" if plan.bytes_to_send else ""
    return f"{plan.name}: {', '.join(parts)}; {counted(plan.unchanged, 'document')} unchanged{sent}"
