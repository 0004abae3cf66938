"""Tests each rule of the planner in one row: uploads at the path, the folder's state, and the decision."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.core.model import (
    SELECTED,
    Abilities,
    Desired,
    FileChoice,
    Phase,
    Presence,
    Purpose,
    Status,
    Upload,
    UploadState,
    Verdict,
)
from kbsync.core.planner import Action, Step, decide, must_stay, status_of
from tests.share import long

S = UploadState
Send, Drop, Retire, Unwant, Want, Poll, Serve, Weigh, Keep, Relabel, Prove, Reslice = (
    partial(Action, step) for step in Step
)
PLAIN, RENAMES = Abilities(), Abilities(renames=True)
PAID, PAID_RENAMES = (
    Abilities(asks_before_reindexing=True),
    Abilities(asks_before_reindexing=True, renames=True),
)
UPDATES, KEEPS = Abilities(updates=True), Abilities(rename_policy="keep")
RENAMES_KEEPS = Abilities(renames=True, rename_policy="keep")

WANTED = Desired("a.md", Presence.PRESENT, SELECTED, "new", 3, "r1")
GONE = replace(WANTED, presence=Presence.GONE)
EXCLUDED = replace(WANTED, verdict=Verdict(FileChoice.EXCLUDED, "excluded by drafts/"))
UPGRADED = replace(EXCLUDED, by_person=False)
EMPTY = replace(WANTED, verdict=Verdict(FileChoice.SKIPPED, "empty"), digest=None)
TOO_LARGE = replace(WANTED, verdict=Verdict(FileChoice.REFUSED, "too large"))
UNKNOWN = replace(WANTED, presence=Presence.UNKNOWN)
SHUT_AND_EXCLUDED = replace(EXCLUDED, presence=Presence.UNKNOWN)
MISSING = replace(WANTED, presence=Presence.MISSING)
WRITING = replace(WANTED, digest=None)
NEVER = replace(GONE, keeps=True)


def up(number: int, state: UploadState, digest: str = "new", **other: object) -> Upload:
    remote = None if state in (S.INTENDED, S.SENDING, S.UNSURE) else f"id{number}"
    base = Upload(number, 1, 1, "a.md", "a.md", "a.md", digest, 3, "r1", state, remote_id=remote)
    return replace(base, **other)  # type: ignore[arg-type]


SERVER, OLD = up(1, S.SERVING), up(1, S.SERVING, "old")
NOT_SENT, SENDING = up(2, S.INTENDED, "mid"), up(2, S.SENDING, "mid")
RESLICES, BY_NAME = Abilities(reslices=True, asks_before_reindexing=True), Abilities(adopt="name")
ANEW: list[Action] = [Retire(1), Send(None)]
MOVED, MID = up(1, S.SERVING, label="b.md"), up(2, S.INDEXING, "mid")
UNRENAMED, UNMOVED = replace(MOVED, phase=Phase.UNRENAMED), up(1, S.SERVING, phase=Phase.UNRENAMED)

MARKED, ITS_OWN = up(2, S.ADOPTING, "mid", phase=Phase.MARKED), up(2, S.ADOPTING, phase=Phase.MARKED)
LISTED = up(3, S.ADOPTING, "old", phase=Phase.MARKED)
former = {"purpose": Purpose.SERVE}
OTHER_NAME, NAMED = up(2, S.INDEXING, label="z.md"), up(1, S.SERVING, label="b.url", name="https://a.org")
FORMER, NEWER = up(1, S.RETIRING, **former), up(2, S.SERVING, "other")
never = {"purpose": Purpose.RETIRE}

OTHER = replace(WANTED, recipe="r2")
KEPT, ALLOWED = replace(OTHER, may_renew=False), OTHER

R3, INTENT = replace(KEPT, recipe="r3"), up(2, S.INTENDED, recipe="r2")

RENEWALS: list[tuple[str, Desired, list[Upload], Abilities, list[Action]]] = [
    ("another recipe that is not allowed keeps what serves", KEPT, [SERVER], PAID, [Keep(1)]),
    ("what is allowed is sent", ALLOWED, [SERVER], PAID, [Keep(1), Send(1)]),
    ("an intent of another recipe is not sent after all", R3, [SERVER, INTENT], PAID, [Keep(1), Drop(2)]),
    ("other bytes go at once", KEPT, [OLD], PAID, [Keep(1), Send(1)]),
    ("another name has to be sent anyway", KEPT, [MOVED], PAID, [Keep(1), Send(1)]),
    ("where the target renames it is renamed and kept", KEPT, [MOVED], PAID_RENAMES, [Keep(1), Relabel(1)]),
    ("a held document whose file is back serves on", KEPT, [up(1, S.HELD)], PAID, [Serve(1)]),
    ("what serves nothing is cut again unasked", OTHER, [up(1, S.FAILED)], RESLICES, [Reslice(1)]),
    ("a file without a document is sent", OTHER, [], PAID, [Send(None)]),
    ("what cutting cannot change is sent", OTHER, [up(1, S.FAILED, recipe="r1!w5")], RESLICES, ANEW),
]

ROWS: list[tuple[str, Desired, list[Upload], Abilities, list[Action]]] = [
    ("a new file is sent", WANTED, [], PLAIN, [Send(None)]),
    ("what serves equal bytes is kept", WANTED, [SERVER], PLAIN, [Keep(1)]),
    ("a change is sent as a successor", WANTED, [OLD], PLAIN, [Keep(1), Send(1)]),
    ("another recipe is a successor", replace(WANTED, recipe="r2"), [SERVER], PLAIN, [Keep(1), Send(1)]),
    ("what is on its way is waited for", WANTED, [up(1, S.INDEXING)], PLAIN, []),
    ("an intent is enough", WANTED, [up(1, S.INTENDED)], PLAIN, []),
    ("newer work supersedes an intent", WANTED, [OLD, NOT_SENT], PLAIN, [Keep(1), Drop(2), Send(1)]),
    ("newer work supersedes what is indexing", WANTED, [OLD, MID], PLAIN, [Keep(1), Retire(2), Send(1)]),
    ("what is being sent is finished first", WANTED, [OLD, SENDING], PLAIN, [Keep(1), Unwant(2), Send(1)]),
    ("while nothing serves, it may", WANTED, [up(1, S.SENDING, "mid")], PLAIN, [Send(None)]),
    ("so may what is indexing", WANTED, [up(1, S.INDEXING, "mid")], PLAIN, [Send(None)]),
    ("and what nobody knows of", WANTED, [up(1, S.UNSURE, "mid"), up(2, S.SENDING)], PLAIN, []),
    ("and what is indexed once more", WANTED, [up(1, S.INDEXING, "mid", repairs=1)], PLAIN, [Send(None)]),
    ("but not what failed", WANTED, [up(1, S.FAILED, "mid", remote_id="r1")], PLAIN, [Retire(1), Send(None)]),
    ("under another name the same is waited for", WANTED, [up(1, S.UNSURE, label="z.md")], PLAIN, []),
    ("be it indexing", WANTED, [up(1, S.INDEXING, label="")], RENAMES, []),
    ("beside a server it makes way", WANTED, [OLD, OTHER_NAME], PLAIN, [Keep(1), Retire(2), Send(1)]),
    ("an in-place target is never written to twice at once", WANTED, [OLD, MID], UPDATES, [Keep(1)]),
    ("an unsure upload is wanted after all", WANTED, [up(1, S.UNSURE, **never)], PLAIN, [Want(1)]),
    ("a quarantined version is not sent again", WANTED, [up(1, S.FAILED)], PLAIN, []),
    ("an edit leaves the quarantined version", WANTED, [up(1, S.FAILED, "old")], PLAIN, ANEW),
    ("a held document whose file is back serves", WANTED, [up(1, S.HELD)], PLAIN, [Serve(1)]),
    ("what is held and back changed is replaced", WANTED, [up(1, S.HELD, "old")], PLAIN, [Serve(1), Send(1)]),
    ("a retirement not sent is called off", WANTED, [up(1, S.RETIRING, **former)], PLAIN, [Serve(1)]),
    ("a retirement sent is not", WANTED, [up(1, S.RETIRING, **former, attempts=1)], PLAIN, [Send(None)]),
    ("what never served does not begin to", WANTED, [up(1, S.RETIRING, **never)], PLAIN, [Send(None)]),
    ("back to the former version at once", WANTED, [FORMER, NEWER], PLAIN, [Keep(2), Retire(2), Serve(1)]),
    ("a found document with equal bytes is adopted", WANTED, [up(1, S.ADOPTING)], PLAIN, [Serve(1)]),
    ("one with other bytes is left alone", WANTED, [up(1, S.ADOPTING, "old")], PLAIN, [Send(None)]),
    ("unless the name is proof enough", WANTED, [up(1, S.ADOPTING, "old")], BY_NAME, [Serve(1)]),
    (
        "one with a mark of ours serves whatever its bytes are",
        WANTED,
        [up(1, S.ADOPTING, "old", phase=Phase.MARKED)],
        PLAIN,
        [Serve(1)],
    ),
    (
        "a second one with a mark waits until the first one is known to serve",
        WANTED,
        [up(1, S.INDEXING), up(2, S.ADOPTING, phase=Phase.MARKED)],
        PLAIN,
        [],
    ),
    ("as it does until a lost upload is found", WANTED, [up(1, S.UNSURE), ITS_OWN], PLAIN, []),
    ("of two with a mark, the newer is polled first", WANTED, [MARKED, LISTED], PLAIN, [Poll(3)]),
    ("also the last one of several", WANTED, [LISTED, up(1, S.TOMBSTONE, "mid")], PLAIN, [Poll(3)]),
    ("or the one with the file's bytes", WANTED, [ITS_OWN, LISTED], PLAIN, [Poll(2)]),
    ("then the other one is deleted", WANTED, [SERVER, MARKED], PLAIN, [Keep(1), Retire(2)]),
    ("a copy is not adopted", WANTED, [SERVER, up(2, S.ADOPTING)], PLAIN, [Keep(1)]),
    ("but it saves a rename an upload", WANTED, [MOVED, up(2, S.ADOPTING)], PLAIN, [Keep(1), Serve(2)]),
    ("a page is known by its address, whatever its file is called", WANTED, [NAMED], PLAIN, [Keep(1)]),
    ("a rename is a new label", WANTED, [MOVED], RENAMES, [Keep(1), Relabel(1)]),
    ("one that was refused is a successor", WANTED, [UNRENAMED], RENAMES, [Keep(1), Send(1)]),
    ("or nothing, where names are kept", WANTED, [UNRENAMED], RENAMES_KEEPS, [Keep(1)]),
    ("one that is taken back is nothing", WANTED, [UNMOVED], RENAMES, [Keep(1)]),
    ("or a successor", WANTED, [MOVED], PLAIN, [Keep(1), Send(1)]),
    ("or nothing", WANTED, [MOVED], KEEPS, [Keep(1)]),
    ("what is gone is weighed", GONE, [SERVER], PLAIN, [Weigh(1, "gone")]),
    ("what is held stays held", GONE, [up(1, S.HELD)], PLAIN, []),
    ("an intent for what is gone is dropped", GONE, [up(1, S.INTENDED)], PLAIN, [Drop(1)]),
    ("what indexes for nobody is retired", GONE, [up(1, S.INDEXING, sent_at=9.0)], PLAIN, [Retire(1)]),
    ("unless it was found and may serve", GONE, [up(1, S.INDEXING)], PLAIN, []),
    ("an update in place is waited for", GONE, [up(1, S.INDEXING)], UPDATES, []),
    ("a deselected file is weighed", EXCLUDED, [SERVER], PLAIN, [Weigh(1, "deselected")]),
    ("an upgrade deselects nothing", UPGRADED, [SERVER], PLAIN, []),
    ("an emptied file is weighed", EMPTY, [SERVER], PLAIN, [Weigh(1, "emptied")]),
    ("a file grown too large keeps its old document", TOO_LARGE, [OLD], PLAIN, []),
    ("what is being written is left alone", WRITING, [OLD], PLAIN, []),
    ("one look without it is not enough", MISSING, [SERVER], PLAIN, []),
    ("unreadable is never gone", UNKNOWN, [SERVER], PLAIN, []),
    ("unreadable and left out goes", SHUT_AND_EXCLUDED, [SERVER], PLAIN, [Weigh(1, "deselected")]),
    ("a tombstone is never adopted", WANTED, [up(1, S.TOMBSTONE)], PLAIN, [Send(None)]),
]


KEPT_ROWS = [
    ("what serves stays", NEVER, [SERVER], PLAIN, [Keep(1)]),
    ("what is left out stays", replace(EXCLUDED, keeps=True), [SERVER], PLAIN, [Keep(1)]),
    ("what is emptied stays", replace(EMPTY, keeps=True), [SERVER], PLAIN, [Keep(1)]),
    ("nobody is asked any more", NEVER, [up(1, S.HELD)], PLAIN, [Serve(1)]),
    ("a deletion that was not sent is called off", NEVER, [up(1, S.RETIRING)], PLAIN, [Serve(1)]),
    ("one that was sent goes on", NEVER, [up(1, S.RETIRING, attempts=1)], PLAIN, []),
    ("what is on its way comes to its end", NEVER, [OLD, up(2, S.INDEXING)], PLAIN, [Keep(1)]),
    ("and what nobody knows of", NEVER, [SENDING], PLAIN, []),
    ("what was not sent is not sent any more", NEVER, [OLD, NOT_SENT], PLAIN, [Keep(1), Drop(2)]),
    ("what failed goes", NEVER, [OLD, up(2, S.FAILED)], PLAIN, [Keep(1), Retire(2)]),
    ("a change replaces", replace(WANTED, keeps=True), [OLD], PLAIN, [Keep(1), Send(1)]),
]
"""With `deletions: never`."""
EVERY = [*ROWS, *RENEWALS, *KEPT_ROWS]


@pytest.mark.parametrize(
    ("desired", "uploads", "abilities", "actions"), [r[1:] for r in EVERY], ids=[r[0] for r in EVERY]
)
def test_planner_decisions(
    desired: Desired, uploads: list[Upload], abilities: Abilities, actions: list[Action]
) -> None:
    assert list(decide(desired, uploads, abilities)) == actions


STATUSES = [
    (WANTED, [up(1, S.SERVING)], Status.READY),
    (WANTED, [up(1, S.SERVING, "old")], Status.PENDING),
    (WANTED, [up(1, S.SERVING, "old"), up(2, S.INDEXING)], Status.INDEXING),
    (WANTED, [up(1, S.SERVING, "old"), up(2, S.FAILED)], Status.FAILED),
    (WANTED, [up(1, S.SERVING, label="old.md"), up(2, S.INDEXING)], Status.READY),
    (WANTED, [up(1, S.SERVING, label="old.md"), up(2, S.FAILED)], Status.FAILED),
    (WANTED, [up(1, S.SERVING, label="old.md"), up(2, S.FAILED, "older")], Status.READY),
    (WANTED, [up(2, S.UNSURE)], Status.PENDING),
    (WANTED, [], Status.PENDING),
    (OTHER, [up(1, S.SERVING)], Status.PENDING),
    (KEPT, [up(1, S.SERVING, wanted_recipe="r2")], Status.HELD),
    (KEPT, [up(1, S.SERVING, "old", wanted_recipe="r2")], Status.PENDING),
    (OTHER, [up(1, S.SERVING), up(2, S.INDEXING, recipe="r2")], Status.INDEXING),
    (GONE, [up(1, S.HELD)], Status.HELD),
    (GONE, [up(1, S.SERVING)], Status.PENDING),
    (NEVER, [up(1, S.SERVING), up(2, S.INDEXING)], Status.KEPT),
    (NEVER, [up(2, S.INDEXING)], Status.INDEXING),
    (replace(EXCLUDED, keeps=True), [], Status.EXCLUDED),
    (EMPTY, [], Status.SKIPPED),
    (EXCLUDED, [], Status.EXCLUDED),
    (TOO_LARGE, [up(1, S.SERVING, "old")], Status.FAILED),
]


@pytest.mark.parametrize(("desired", "uploads", "status"), STATUSES)
def test_status(desired: Desired, uploads: list[Upload], status: Status) -> None:
    assert status_of(desired, uploads) is status


uploads = st.builds(
    up,
    st.integers(1, 99),
    st.sampled_from([s for s in S if not s.is_final]),
    st.sampled_from(["new", "old"]),
    purpose=st.sampled_from(Purpose),
    label=st.sampled_from(["a.md", "b.md"]),
    attempts=st.integers(0, 2),
    recipe=st.sampled_from(["r1", "r2", ""]),
    wanted_recipe=st.sampled_from(["", "r1", "r2"]),
)
ABILITIES = st.builds(
    Abilities,
    renames=st.booleans(),
    updates=st.booleans(),
    reslices=st.booleans(),
    asks_before_reindexing=st.booleans(),
    rename_policy=st.sampled_from(["replace", "keep"]),
)


def consistent(rows: list[Upload]) -> bool:
    numbers = [u.id for u in rows]
    return len(set(numbers)) == len(numbers) and sum(u.state.serves for u in rows) <= 1


@long
@given(
    st.sampled_from([WANTED, GONE, EXCLUDED, UPGRADED, EMPTY, TOO_LARGE, UNKNOWN, MISSING, WRITING]),
    st.lists(uploads, max_size=4).filter(consistent),
    ABILITIES,
)
def test_serving_document_is_retired_only_when_another_serves(
    desired: Desired, rows: list[Upload], abilities: Abilities
) -> None:
    actions = decide(desired, rows, abilities)
    served = {a.upload for a in actions if a.step is Step.SERVE}
    for action in actions:
        if action.step in (Step.RETIRE, Step.DROP):
            target = next(u for u in rows if u.id == action.upload)
            assert not target.state.serves or served - {target.id}


@long
@given(st.lists(uploads, max_size=4).filter(consistent))
def test_unreadable_file_changes_nothing(rows: list[Upload]) -> None:
    for desired, abilities in product((UNKNOWN, MISSING), (PLAIN, RENAMES, UPDATES, KEEPS)):
        assert decide(desired, rows, abilities) == ()


@long
@given(st.lists(uploads, max_size=4).filter(consistent), ABILITIES)
def test_settings_change_is_not_sent_before_approval(rows: list[Upload], abilities: Abilities) -> None:
    server = next((u for u in rows if u.state.serves), None)
    actions = decide(replace(WANTED, may_renew=False), rows, replace(abilities, asks_before_reindexing=True))
    if server is None or (server.digest, server.label) != (WANTED.digest, WANTED.path):
        return
    assert not any(action.step is Step.SEND for action in actions)


SENT = up(1, S.RETIRING, attempts=1)
COMING = up(2, S.INDEXING)


@pytest.mark.parametrize(
    ("retiring", "desired", "other_uploads", "stays"),
    [
        (SENT, WANTED, [COMING], True),
        (SENT, WANTED, [up(2, S.INTENDED)], True),
        (SENT, WANTED, [up(2, S.SERVING)], False),
        (SENT, WANTED, [COMING, up(3, S.HELD)], False),
        (SENT, WANTED, [up(2, S.FAILED)], False),
        (SENT, WANTED, [up(2, S.UNSURE, **never)], False),
        (SENT, WANTED, [], False),
        (SENT, replace(WANTED, presence=Presence.UNKNOWN), [COMING], True),
        (SENT, replace(WANTED, presence=Presence.GONE), [COMING], False),
        (up(1, S.RETIRING), WANTED, [COMING], False),
        (up(1, S.RETIRING, attempts=1, **never), WANTED, [COMING], False),
    ],
)
def test_document_that_resists_deletion_stays_until_its_successor_serves(
    retiring: Upload, desired: Desired, other_uploads: list[Upload], stays: bool
) -> None:
    assert must_stay(retiring, desired, [retiring, *other_uploads]) == stays
