"""Decides the next steps for one path, after every change of a file or an upload. Pure: does no I/O.

Each rule has a row in `tests/core/test_planner.py`:

- A path that can't be checked, or is being written, stays unchanged.
- A file that is gone or deselected loses its document. If the document serves, kbsync first decides
  on its deletion together with the others.
- With `deletions: never` the file keeps the document that serves it, and uploads in flight finish. Documents
  replaced by a newer version or a new name are still deleted. A document whose delete failed is kept if the
  target still has it.
- A document that serves equal bytes under an equal recipe stays.
- A retirement is canceled if its delete was not sent and nothing else serves the path. A delete that got no
  response is not repeated before a successor serves: searches may still find the document.
- The target identifies a web page by its address, regardless of its file's name.
- A change is sent as a successor; the document that serves keeps serving until the successor is ready.
- If indexing costs money, the same bytes under a different recipe keep their document until that recipe is
  allowed (ADR 23). Uploads needed for other bytes or another name are sent at once.
- A newer version supersedes an older one in flight, which is retired without waiting for it. Three
  exceptions. A target that updates in place has a single document, which must not be written twice at once.
  While nothing serves the path, an older version stays: it may already be searchable, and serves until the
  newer one does. The same version under a name that is no longer wanted finishes first, because nothing is
  sent twice at once.
- A quarantined version is not sent again; an edit or `retry` creates a new one. Under a different recipe the
  target splits it again in place, if it can, because the document serves nothing.
- A document that the target refused to rename is replaced, as at targets that can't rename.
- A renamed file whose upload was refused has failed, though searches still find its bytes under its old name.
- A document found at the target is adopted when its bytes prove it is ours; if its name proves nothing,
  kbsync reads it before it sends anything. A document that a mark or its base proves to be ours serves its
  path at once, regardless of its bytes: an old one is replaced, one without a file is deleted, and a second
  one is retired. If the path has other uploads as well, kbsync polls such documents first, one at a time: the
  target may list them although they are deleted. One without a file isn't deleted before its poll shows
  whether it is searchable.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

from kbsync.core.links import is_address
from kbsync.core.model import (
    DESELECTED,
    EMPTIED,
    GONE,
    ON_THE_WAY,
    TAG,
    Abilities,
    Desired,
    FileChoice,
    Phase,
    Presence,
    Purpose,
    Status,
    Upload,
    UploadState,
    by_tag,
    serving,
)
from kbsync.core.names import tag_of
from kbsync.dataclass import dataclass

UNKNOWN_SIZE = -1
"""The size to assume for a document whose size the target doesn't report."""


class Step(enum.Enum):
    """A step to take for an upload of a path."""

    SEND = enum.auto()  # send the wanted bytes; this upload, if any, serves until the new one is ready
    DROP = enum.auto()  # it never reached the target: drop it
    RETIRE = enum.auto()  # delete its document at the target
    UNWANT = enum.auto()  # its outcome is pending and it is no longer wanted: retire it once known
    WANT = enum.auto()  # its outcome is pending and it is wanted again
    POLL = enum.auto()  # proven to be ours, but not the path's only upload: does it still exist?
    SERVE = enum.auto()  # a hold released, a retirement canceled, an adoption proven, once it is ready
    WEIGH = enum.auto()  # decide about its deletion with the others
    KEEP = enum.auto()  # drop its deletion
    RELABEL = enum.auto()  # send the new path to the target
    PROVE = enum.auto()  # read the document at the target: is it this file?
    RESLICE = enum.auto()  # have the target split the document again under the wanted recipe


@dataclass(frozen=True, slots=True)
class Action:
    """A step for the upload with this id. `cause`: the reason for the deletion, if the deletion needs a
    decision.
    """

    step: Step
    upload: int | None
    cause: str = ""


def decide(desired: Desired, uploads: Sequence[Upload], abilities: Abilities) -> tuple[Action, ...]:
    """Return the steps to take now, if any. `uploads` doesn't include uploads in a final state."""
    server, marked = serving(uploads), [upload for upload in uploads if upload.is_marked]
    if server is None and marked:
        is_awaited = any(_may_serve(u) for u in uploads)
        # Prefer the file's own document, otherwise take the newest one.
        best = max(marked, key=lambda u: (u.is_listed_ready, proves(u, desired), u.id))
        step = Step.SERVE if len(uploads) == 1 else Step.POLL
        return () if is_awaited else (Action(step, best.id),)
    cause = removal_cause(desired)
    if is_undecided(desired) or (not cause and desired.verdict.choice is not FileChoice.SELECTED):
        return ()
    if cause and not desired.keeps:
        if server is None and any(u.state is UploadState.INDEXING and u.sent_at is None for u in uploads):
            return ()  # if the poll of an adopted document finds it searchable, its deletion is weighed
        return _remove_all(uploads, cause, abilities)
    if server is None and (returning := next((u for u in uploads if _can_return(u)), None)):
        return (Action(Step.SERVE, returning.id),)
    restored: tuple[Action, ...] = ()
    if server is not None:
        restored = (Action(Step.SERVE if server.state is UploadState.HELD else Step.KEEP, server.id),)
    if cause:  # the serving document stays, without approval; uploads that failed or were never sent don't
        unsent = (u for u in uploads if u.state in (UploadState.INTENDED, UploadState.FAILED))
        return (*restored, *_remove_all(unsent, GONE, Abilities()))
    return (*restored, *_keep(desired, uploads, server, abilities))


def is_undecided(desired: Desired) -> bool:
    """Return whether it is still unknown which document, if any, the path needs."""
    # A file that a user excludes loses its document even if it can't be checked, since excluded files aren't
    # checked.
    if desired.presence is Presence.UNKNOWN:
        return removal_cause(desired) != DESELECTED
    if desired.presence is Presence.MISSING:
        return True  # one check is not enough (promise 1)
    return (
        not removal_cause(desired)
        and desired.verdict.choice is FileChoice.SELECTED
        and desired.digest is None
    )


def removal_cause(desired: Desired) -> str:
    """Return why the path must not have a document, or '' if it must have a document."""
    if desired.presence is Presence.GONE:
        return GONE
    match desired.verdict.choice:
        # A file that only an upgrade of kbsync excludes keeps its document.
        case FileChoice.EXCLUDED:
            return DESELECTED if desired.by_person else ""
        case FileChoice.SKIPPED:
            return EMPTIED if desired.by_person else ""
        case _:
            return ""


def _remove_all(uploads: Iterable[Upload], cause: str, abilities: Abilities) -> tuple[Action, ...]:
    """Remove these uploads, each with the step that its state requires."""
    actions = (_remove(upload, cause, abilities) for upload in uploads)
    return tuple(action for action in actions if action is not None)


def _remove(upload: Upload, cause: str, abilities: Abilities) -> Action | None:
    match upload.state:
        case UploadState.INTENDED:
            return Action(Step.DROP, upload.id)
        # A target that updates in place has overwritten its one document with this upload: let it finish.
        case UploadState.SENDING | UploadState.UNSURE if not abilities.updates:
            return Action(Step.UNWANT, upload.id) if upload.purpose is Purpose.SERVE else None
        case UploadState.INDEXING if not abilities.updates:
            return Action(Step.RETIRE, upload.id)
        case UploadState.FAILED:
            return Action(Step.RETIRE if upload.remote_id else Step.DROP, upload.id)
        case UploadState.SERVING:
            return Action(Step.WEIGH, upload.id, cause)
        case UploadState.ADOPTING if upload.is_marked:
            return Action(Step.RETIRE, upload.id)
        case _:
            return None


def _keep(
    desired: Desired, uploads: Sequence[Upload], server: Upload | None, abilities: Abilities
) -> tuple[Action, ...]:
    if server is not None and _same_content(server, desired):
        label = _relabel(server, desired, abilities)
        if label is not None:
            return (*label, *_supersede(desired, uploads, server, abilities))
    chosen = _choose(desired, uploads, server, abilities)
    if chosen is not None:
        return (*_supersede(desired, uploads, chosen, abilities), *_advance(chosen, server))
    # The only document is being written, or one that may serve has the wanted content under a different name.
    if abilities.updates and any(u.state.in_flight for u in uploads):
        return ()
    if server is None and any(_may_serve(u) and _same_content(u, desired) for u in uploads):
        return ()
    if server is None and (unread := next((u for u in uploads if _is_unread(u, desired, abilities)), None)):
        return (Action(Step.PROVE, unread.id),)
    if server is not None and not desired.may_renew and only_recipe_differs(server, desired, abilities):
        label = _relabel(server, desired, abilities) or ()
        return (*label, *_supersede(desired, uploads, None, abilities))
    if failed := next((u for u in uploads if _can_be_cut_again(u, desired, abilities)), None):
        return (*_supersede(desired, uploads, failed, abilities), Action(Step.RESLICE, failed.id))
    replaced = server.id if server else None
    return (*_supersede(desired, uploads, None, abilities), Action(Step.SEND, replaced))


def only_recipe_differs(server: Upload, desired: Desired, abilities: Abilities) -> bool:
    """Return whether a different recipe is the only reason to send the bytes."""
    same = server.digest == desired.digest and server.recipe != desired.recipe
    return same and _relabel(server, desired, abilities) is not None


def _can_return(upload: Upload) -> bool:
    """Return whether the document has served its path before and its deletion hasn't been requested."""
    return upload.state is UploadState.RETIRING and upload.purpose is Purpose.SERVE and upload.attempts == 0


def _same_content(upload: Upload, desired: Desired) -> bool:
    return upload.digest == desired.digest and upload.recipe == desired.recipe


def _relabel(server: Upload, desired: Desired, abilities: Abilities) -> tuple[Action, ...] | None:
    """Return how to keep the serving document, or None if the file needs a successor.

    If the document's path is right, return no step. If the path can be corrected, return `RELABEL`.
    """
    can_rename = abilities.renames and server.phase is not Phase.UNRENAMED
    if server.label == desired.path or (not can_rename and abilities.rename_policy == "keep"):
        return ()
    if is_address(server.name):
        return ()  # the target identifies the web page by its address, regardless of the file's name
    return (Action(Step.RELABEL, server.id),) if can_rename else None


def _choose(
    desired: Desired, uploads: Sequence[Upload], server: Upload | None, abilities: Abilities
) -> Upload | None:
    """Return the existing upload that will serve the desired version, or None if there isn't one."""
    fitting = [u for u in uploads if _same_content(u, desired) and not u.state.serves]
    # Try the upload that is furthest along first, because it will be searchable soonest.
    for state in reversed(ON_THE_WAY):
        for upload in fitting:
            if upload.state is state and upload.label == desired.path:
                return upload
    for upload in fitting:
        if _can_return(upload) and upload.label == desired.path:
            return upload
        if upload.state is UploadState.FAILED:
            return upload
    # After a rename, a kbsync with another state may have sent the file already.
    if server and server.digest == desired.digest and server.label == desired.path:
        return None
    return _adoptable(desired, uploads, server, abilities)


def _adoptable(
    desired: Desired, uploads: Sequence[Upload], server: Upload | None, abilities: Abilities
) -> Upload | None:
    """Return a document at the target that is proven to be ours.

    The proof is its bytes or, if `adopt` allows that, its name. While a document with other bytes serves the
    path, only bytes count as proof, because the state could be older than that document.
    """
    candidates = [u for u in uploads if u.state is UploadState.ADOPTING]
    proven = [u for u in candidates if proves(u, desired)]
    if (
        not proven
        and not server
        and abilities.adopt == "name"
        and not any(_is_unread(u, desired, abilities) for u in candidates)
    ):
        proven = candidates
    return next((u for u in proven if u.is_listed_ready), proven[0] if proven else None)


def proves(document: Upload, desired: Desired) -> bool:
    """Return whether the known part of a document's digest proves that its bytes are the desired ones."""
    return desired.digest is not None and digests_match(
        document.digest, document.size, desired.digest, desired.size
    )


def digests_match(known_digest: str, known_size: int | None, digest: str, size: int) -> bool:
    """Return whether `known_digest`, which may be just a tag, shows that the bytes are those of `digest`."""
    if known_digest == digest or not known_digest.startswith(TAG):
        return known_digest == digest
    # A tag has 40 bits of the digest; together with the length, it suffices as proof (ADR 12).
    return known_digest == by_tag(tag_of(digest)) and known_size in (size, UNKNOWN_SIZE, None)


def _is_unread(upload: Upload, desired: Desired, abilities: Abilities) -> bool:
    """Return whether the document may belong to this file but kbsync hasn't read the document's bytes yet."""
    could_be = upload.state is UploadState.ADOPTING and upload.digest == ""
    return abilities.reads and could_be and upload.size in (desired.size, UNKNOWN_SIZE)


def _can_be_cut_again(upload: Upload, desired: Desired, abilities: Abilities) -> bool:
    return (
        abilities.reslices
        and upload.state is UploadState.FAILED
        and upload.remote_id is not None
        and upload.digest == desired.digest
        and upload.recipe != desired.recipe
        # Splitting again doesn't change the part of a recipe after `!`.
        and upload.recipe.partition("!")[2] == desired.recipe.partition("!")[2]
    )


def _advance(chosen: Upload, server: Upload | None) -> tuple[Action, ...]:
    match chosen.state:
        case UploadState.UNSURE | UploadState.SENDING | UploadState.INDEXING if (
            chosen.purpose is Purpose.RETIRE
        ):
            return (Action(Step.WANT, chosen.id),)
        case UploadState.ADOPTING if not chosen.is_listed_ready:
            return (Action(Step.SERVE, chosen.id),)
        case UploadState.ADOPTING | UploadState.RETIRING:
            return (*((Action(Step.RETIRE, server.id),) if server else ()), Action(Step.SERVE, chosen.id))
        case _:
            return ()


def _supersede(
    desired: Desired, uploads: Sequence[Upload], chosen: Upload | None, abilities: Abilities
) -> tuple[Action, ...]:
    """Remove all uploads except for the serving one and `chosen`.

    If no upload serves the path, keep other versions.
    """
    is_served = any(u.state.serves for u in uploads)
    superseded = (u for u in uploads if u is not chosen and not u.state.serves)
    removed = (u for u in superseded if is_served or not _may_serve(u) or _same_content(u, desired))
    return _remove_all(removed, GONE, abilities)


def _may_serve(upload: Upload) -> bool:
    """Return whether the upload could be searchable now or later, because it was sent and kbsync hasn't given
    it up.
    """
    return upload.state.in_flight and upload.purpose is Purpose.SERVE


def must_stay(retiring: Upload, desired: Desired, uploads: Iterable[Upload]) -> bool:
    """Return whether a sent delete had no effect and the path needs a document again.

    In that case, the delete waits until another upload serves the path.
    """
    if removal_cause(desired) or retiring.purpose is not Purpose.SERVE or retiring.attempts == 0:
        return False
    states = {upload.state for upload in uploads if upload.purpose is Purpose.SERVE}
    is_coming = any(state is UploadState.INTENDED or state.in_flight for state in states)
    return is_coming and not any(state.serves for state in states)


def status_of(desired: Desired, uploads: Sequence[Upload]) -> Status:
    """Return the status of the file as users see it."""
    server = serving(uploads)
    if server is not None and server.state is UploadState.HELD:
        return Status.HELD
    if removal_cause(desired) and server is not None:
        return Status.KEPT if desired.keeps else Status.PENDING
    if removal_cause(desired) and desired.keeps and any(u.state.in_flight for u in uploads):
        return Status.INDEXING  # the document stays once it serves
    match desired.verdict.choice:
        case FileChoice.EXCLUDED:
            return Status.EXCLUDED
        case FileChoice.SKIPPED:
            return Status.SKIPPED
        case FileChoice.REFUSED:
            return Status.FAILED
    fitting = [u for u in uploads if _same_content(u, desired)]
    states = {u.state for u in fitting}
    if server is not None and _same_content(server, desired):
        # If the renamed file was refused, searches find its bytes only under the old name.
        is_refused = UploadState.FAILED in states and server.label != desired.path
        return Status.FAILED if is_refused else Status.READY
    is_same = server is not None and server.digest == desired.digest
    if server is not None and is_same and server.wanted_recipe == desired.recipe and not desired.may_renew:
        return Status.HELD  # the user decides before it costs money (ADR 23)
    if server is None and fitting and fitting[-1].is_without_text:
        return Status.SKIPPED  # while an older version serves, the file is out of date and has failed
    if UploadState.INDEXING in states:
        return Status.INDEXING
    return Status.FAILED if UploadState.FAILED in states else Status.PENDING
