"""What a survey says of each path: steps that a pass would take, and files that are left out."""

from __future__ import annotations

from dataclasses import dataclass, field

from kbsync.core.model import Choice, Status, Upload, UploadState, Wish
from kbsync.core.planner import parting_cause
from kbsync.engine.views.foresight import ON_ITS_WAY, Course, Effect, effect_of, is_for
from kbsync.state.entries import Entry

RENEWED = (Effect.REEMBED, Effect.RENEW, Effect.ASKED)
"""The same bytes under another recipe."""

SENT = (Effect.UPLOAD, Effect.REPLACE, *RENEWED)
LOST = "its answer was lost; it is looked for before it is sent again"
AGAIN = "the target cannot rename"


@dataclass(frozen=True, slots=True)
class Step:
    """What a pass would do about one path.

    `size`: bytes that are sent, or of the document. `cause`: why it would go. `source`: the path it had
    before. `sends`: its bytes are sent. `before`: its row as it was, None for a new file. `server`: what
    serves it meanwhile. `news`: seen by looking at the folder; else the state knew of it already. `recipe`:
    the wished one.
    """

    effect: Effect
    path: str
    size: int
    cause: str = ""
    source: str | None = None
    sends: bool = False
    note: str = ""
    before: Entry | None = None
    server: Upload | None = None
    news: bool = True
    is_ready: bool = False
    recipe: str = ""

    @property
    def is_known(self) -> bool:
        """The state knew already that something is to be done here."""
        waiting = self.before is not None and self.before.status in (Status.PENDING, Status.INDEXING)
        return not self.news or waiting


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or directory (its path ends in `/`) without an up-to-date document, and why."""

    path: str
    size: int
    reason: str


@dataclass(slots=True)
class Findings:
    """All that a survey found. `unchanged`: documents with nothing to do about them."""

    steps: list[Step] = field(default_factory=list)
    failed: list[LeftOut] = field(default_factory=list)
    skipped: list[LeftOut] = field(default_factory=list)
    unchanged: int = 0

    def note(self, step: Step) -> None:
        """Remember what differs, count what does not."""
        if step.effect is Effect.SKIPPED:
            self.skipped.append(LeftOut(step.path, step.size, step.note))
            return
        if step.effect is Effect.NOTHING:
            self.unchanged += step.is_ready
        elif step.effect is not Effect.INDEXING:
            self.steps.append(step)
        if step.effect is Effect.FAILED:
            self.failed.append(LeftOut(step.path, step.size, step.note))

    def leave_out(self, wish: Wish, course: Course) -> None:
        """Remember a file that is not taken, and what is still found of it."""
        left = LeftOut(wish.path, wish.size, wish.verdict.reason)
        if wish.verdict.choice is Choice.SKIPPED:
            self.skipped.append(left)
        elif wish.verdict.choice is Choice.REFUSED:
            self.failed.append(left if course.server is None else _outdated(left))


_REFUSED = (Effect.FAILED, Effect.SKIPPED)


def _outdated(left: LeftOut) -> LeftOut:
    return LeftOut(left.path, left.size, f"{left.reason}; an older version is still found, out of date")


def step_of(wish: Wish, course: Course, known: Entry | None, moved_from: str | None) -> Step:
    """The step that a course means. `moved_from`: the path the same file had until now."""
    effect, server = effect_of(wish, course), course.server
    is_ready = effect is Effect.NOTHING and _is_served(wish, course)
    if is_ready and moved_from is not None:
        effect = Effect.RENAME  # the target keeps the old name: nothing is sent
    sends = (effect in SENT and not course.reslices) or (
        effect is Effect.RENAME and _sending(wish, course) is not None
    )
    return Step(
        effect,
        wish.path,
        wish.size if sends or server is None else server.size,
        cause=course.cause or parting_cause(wish),
        source=_source(effect, server, moved_from),
        sends=sends,
        note=_remark(effect, wish, course) if sends or effect in _REFUSED else "",
        recipe=wish.recipe,
        before=known,
        server=server,
        is_ready=is_ready,
    )


def _is_served(wish: Wish, course: Course) -> bool:
    wanted = wish.verdict.choice is Choice.SELECTED and wish.digest is not None
    return wanted and course.server is not None and is_for(wish, course.server)


def _sending(wish: Wish, course: Course) -> Upload | None:
    return next((row for row in course.rows if row.state in ON_ITS_WAY and is_for(wish, row)), None)


def _source(effect: Effect, server: Upload | None, moved_from: str | None) -> str | None:
    if effect is not Effect.RENAME:
        return None
    return moved_from or (server.label or server.path if server is not None else None)


def _remark(effect: Effect, wish: Wish, course: Course) -> str:
    if effect in _REFUSED:
        return next((row.reason for row in course.rows if _is_quarantined(row, wish)), "")
    sending = _sending(wish, course)
    if sending is not None and sending.state in (UploadState.UNSURE, UploadState.SENDING):
        return LOST
    return AGAIN if effect is Effect.RENAME else ""


def _is_quarantined(row: Upload, wish: Wish) -> bool:
    return row.state is UploadState.FAILED and is_for(wish, row)
