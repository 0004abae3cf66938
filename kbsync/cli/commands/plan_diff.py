"""A plan as people read it: a line for each path, what is deleted and held apart, totals last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kbsync.cli.output import Output, Style, counted
from kbsync.core.text import printable, sized
from kbsync.engine.plan import RECIPE, LeftOut, MirrorPlan, Planned

DESELECTED = "deselected"
"""The cause of a deletion whose file is there, but no longer selected."""


@dataclass(frozen=True, slots=True)
class DiffSection:
    """Lines of one kind. `sign` comes first in each, `heading` before all of them where it is not ''."""

    sign: str
    style: Style
    items: Sequence[Planned]
    write: Callable[[Planned], str]
    heading: str = ""


def print_plans(output: Output, plans: Sequence[MirrorPlan], limit: int | None) -> None:
    """Every plan, one below the other."""
    for number, plan in enumerate(plans):
        if number:
            output.line()
        for line in _lines(output, plan, limit):
            output.line(line)


def _lines(output: Output, plan: MirrorPlan, limit: int | None) -> Iterator[str]:
    if plan.halt is not None:
        cure = f"; then: {plan.halt.cure}" if plan.halt.cure else ""
        yield output.red(f"{plan.name}: nothing would be done ({plan.halt.reason})")
        yield f"  {printable(plan.halt.detail + cure)}"
        return
    for kind in _kinds(output, plan):
        yield from _of_kind(output, kind, limit)
    yield from _left_out(output, plan.failed, limit)
    if plan.note:
        yield f"{plan.name}: {printable(plan.note)}"
    yield output.bold(_totals(plan))


def _kinds(output: Output, plan: MirrorPlan) -> Iterator[DiffSection]:
    yield DiffSection("+", output.green, plan.upload, _with_size)
    yield DiffSection("~", output.yellow, plan.replace, _with_size)
    yield DiffSection("~", output.yellow, plan.reembed, _with_size, "indexed anew, as settings changed:")
    yield DiffSection(">", output.cyan, plan.rename, _renamed)
    yield DiffSection("-", output.red, _gone(plan.delete), _with_size)
    yield DiffSection("-", output.red, _deselected(plan.delete), _with_size, "no longer selected:")
    yield DiffSection("!", output.red, _gone(plan.held), _with_size, "deletions that wait for `approve`:")
    why = "no longer selected, and waiting for `approve`:"
    yield DiffSection("!", output.red, _deselected(plan.held), _with_size, why)
    renewals = [item for item in plan.held if item.cause == RECIPE]
    why = f"to be indexed anew as settings changed ({_sized_all(renewals)}), waiting for `approve`:"
    yield DiffSection("!", output.red, renewals, _with_size, why)


def _of_kind(output: Output, kind: DiffSection, limit: int | None) -> Iterator[str]:
    if kind.items and kind.heading:
        yield output.dim(kind.heading)
    for item in kind.items[:limit]:
        yield f"{kind.style(kind.sign)} {kind.write(item)}"
    if limit is not None and len(kind.items) > limit:
        yield f"{kind.style(kind.sign)} … and {len(kind.items) - limit:,} more"


def _with_size(item: Planned) -> str:
    remarks = [sized(item.size), *([item.cause] if item.cause == "emptied" else []), item.note]
    return printable(f"{item.path}  ({', '.join(filter(None, remarks))})")


def _renamed(item: Planned) -> str:
    sent = f"{sized(item.size)} sent again" if item.sends else ""
    remarks = ", ".join(filter(None, [sent, item.note]))
    if item.source in (None, item.path):  # only the prefix before it is another
        return printable(f"{item.path}  ({', '.join(filter(None, ['under another prefix', remarks]))})")
    return printable(f"{item.source} → {item.path}" + (f"  ({remarks})" if remarks else ""))


def _gone(items: Sequence[Planned]) -> list[Planned]:
    return [item for item in items if item.cause not in (DESELECTED, RECIPE)]


def _deselected(items: Sequence[Planned]) -> list[Planned]:
    return [item for item in items if item.cause == DESELECTED]


def _sized_all(items: Sequence[Planned]) -> str:
    return f"{counted(len(items), 'document')}, {sized(sum(item.size for item in items))}"


def _left_out(output: Output, failed: Sequence[LeftOut], limit: int | None) -> Iterator[str]:
    if failed:
        yield output.dim("cannot be mirrored as they are:")
    for item in failed[:limit]:
        yield f"{output.red('x')} {printable(item.path)}  ({printable(item.reason)})"
    if limit is not None and len(failed) > limit:
        yield f"{output.red('x')} … and {len(failed) - limit:,} more"


def _totals(plan: MirrorPlan) -> str:
    counts = (
        (len(plan.upload), "new"),
        (len(plan.replace), "changed"),
        (len(plan.reembed), "indexed anew"),
        (len(plan.rename), "renamed"),
        (len(plan.delete), "deleted"),
        (len(plan.held), "held"),
        (len(plan.failed), "failed"),
    )
    parts = [f"{number:,} {word}" for number, word in counts if number] or ["nothing to do"]
    sent = f"; {sized(plan.bytes_to_send)} to send" if plan.bytes_to_send else ""
    return f"{plan.name}: {', '.join(parts)}; {counted(plan.unchanged, 'document')} unchanged{sent}"
