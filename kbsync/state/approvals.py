"""Waits for a person's decision: deletions over the limits, and documents to index again because settings
changed.

Deletions are collected as candidates, weighed as one batch, and released or held. Released ones are logged,
so that the next batch is weighed together with them. Recipes that cost money are allowed, asked about or
undecided, one row each (ADR 23).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kbsync.state.db import Table, bind, unbind

DELETIONS, RENEWALS = "deletions", "renewals"
"""Kinds of holds."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A served path whose file is gone or deselected. `cause`: gone, deselected or emptied."""

    path: str
    upload: int
    cause: str
    at: float


@dataclass(frozen=True, slots=True)
class HoldItem:
    """One deletion of a hold: it runs only for this upload."""

    path: str
    upload: int
    digest: str
    cause: str


@dataclass(frozen=True, slots=True)
class Hold:
    """A request for `approve`. `kind`: deletions or renewals; `detail`: explains it to a person."""

    id: int
    mirror: int
    made_at: float
    approved_at: float | None
    kind: str = DELETIONS
    detail: str = ""


_BATCH = (
    "FROM candidate c JOIN upload u ON u.id = c.upload AND u.state = 5 AND u.path = c.path"
    " WHERE c.mirror = ?1 AND NOT c.let_go AND c.hold IS NULL"
)
"""The candidates that are weighed together."""

_IS_WHOLE = "NOT EXISTS(SELECT 1 FROM candidate c WHERE c.hold = hold.id)"
"""All deletions of the hold have joined it."""


class Holds(Table):
    """Candidates, holds and the deletion log of one connection."""

    def nominate(self, mirror: int, path: str, upload: int, cause: str, now: float) -> None:
        """Add a deletion to weigh; the time of the first nomination stays."""
        self._db.execute(
            "INSERT INTO candidate(mirror, path, upload, cause, at) VALUES(?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET upload = excluded.upload, cause = excluded.cause,"
            # A deletion that joins a hold stays in it, whatever version serves (promise 5).
            " let_go = let_go AND upload = excluded.upload",
            (mirror, bind(path), upload, cause, now),
        )

    def withdraw(self, mirror: int, path: str) -> None:
        """Drop the candidate: the path is wanted again."""
        self._db.execute("DELETE FROM candidate WHERE mirror = ? AND path = ?", (mirror, bind(path)))

    def candidates(self, mirror: int, *, after: str | None = None, limit: int = -1) -> list[Candidate]:
        """Candidates that are not weighed yet, by path, starting after `after`."""
        sql = (
            "SELECT path, upload, cause, at FROM candidate WHERE mirror = ?1 AND NOT let_go AND hold IS NULL"
            " AND (?2 IS NULL OR path > ?2) ORDER BY path LIMIT ?3"
        )
        rows = self._db.execute(sql, (mirror, None if after is None else bind(after), limit))
        return [Candidate(unbind(path), upload, cause, at) for path, upload, cause, at in rows]

    def weighed(self, mirror: int, limit: int) -> list[tuple[Candidate, int | None]]:
        """Weighed candidates with the hold that each joins (None: released)."""
        sql = (
            "SELECT path, upload, cause, at, hold FROM candidate WHERE mirror = ?"
            " AND (let_go OR hold IS NOT NULL) ORDER BY path LIMIT ?"
        )
        rows = self._db.execute(sql, (mirror, limit))
        return [(Candidate(unbind(path), upload, cause, at), hold) for path, upload, cause, at, hold in rows]

    def is_candidate(self, mirror: int, path: str) -> bool:
        """Whether the deletion of this path's document waits to be weighed."""
        sql = "SELECT 1 FROM candidate WHERE mirror = ? AND path = ?"
        return self._db.execute(sql, (mirror, bind(path))).get is not None

    def count_batch(self, mirror: int) -> int:
        """How many of the candidates still serve and are not weighed yet."""
        return int(self._db.execute(f"SELECT count(*) {_BATCH}", (mirror,)).get)

    def let_batch_go(self, mirror: int) -> None:
        """Release all candidates that aren't weighed yet."""
        self._db.execute("UPDATE candidate SET let_go = 1 WHERE mirror = ? AND hold IS NULL", (mirror,))

    def hold_batch(self, mirror: int, now: float) -> None:
        """Hold all candidates that aren't weighed yet, in one hold that they still have to join."""
        hold = self.open(mirror, now)
        sql = "UPDATE candidate SET hold = ? WHERE mirror = ? AND NOT let_go AND hold IS NULL"
        self._db.execute(sql, (hold, mirror))

    def candidate_times(self, mirror: int) -> tuple[int, float, float]:
        """Number of candidates, and the times of the first and last nomination (0.0 for none)."""
        sql = (
            "SELECT count(*), coalesce(min(at), 0.0), coalesce(max(at), 0.0) FROM candidate WHERE mirror = ?"
        )
        n, first, last = self._db.execute(sql, (mirror,)).get
        return n, first, last

    def open(self, mirror: int, now: float, kind: str = DELETIONS) -> int:
        """Open a hold."""
        self._db.execute("INSERT INTO hold(mirror, made_at, kind) VALUES(?, ?, ?)", (mirror, now, kind))
        return self._db.last_insert_rowid()

    def describe(self, hold: int, detail: str) -> None:
        """Set the explanation of a hold."""
        self._db.execute("UPDATE hold SET detail = ? WHERE id = ?", (detail, hold))

    def add_item(self, hold: int, item: HoldItem) -> None:
        """Add a deletion to a hold."""
        self._db.execute(
            "INSERT OR REPLACE INTO hold_item VALUES(?, ?, ?, ?, ?)",
            (hold, bind(item.path), item.upload, item.digest, item.cause),
        )

    def current(self, mirror: int, kind: str = DELETIONS) -> list[Hold]:
        """Whole holds of this kind that have items and haven't ended, oldest first."""
        sql = (
            "SELECT id, mirror, made_at, approved_at, kind, detail FROM hold"  # noqa: S608 - constants of ours
            f" WHERE mirror = ? AND kind = ? AND ended_at IS NULL AND {_IS_WHOLE}"
            f" AND (kind <> '{DELETIONS}' OR EXISTS(SELECT 1 FROM hold_item WHERE hold = hold.id))"
            " ORDER BY id"
        )
        return [Hold(*row) for row in self._db.execute(sql, (mirror, kind))]

    def items(self, hold: int) -> Iterator[HoldItem]:
        """The items of a hold, by path."""
        sql = "SELECT path, upload, digest, cause FROM hold_item WHERE hold = ? ORDER BY path"
        for path, upload, digest, cause in self._db.execute(sql, (hold,)):
            yield HoldItem(unbind(path), upload, digest, cause)

    def items_after(self, hold: int, upload: int, limit: int) -> list[HoldItem]:
        """A page of a hold's items, by upload."""
        sql = (
            "SELECT path, upload, digest, cause FROM hold_item"
            " WHERE hold = ? AND upload > ? ORDER BY upload LIMIT ?"
        )
        rows = self._db.execute(sql, (hold, upload, limit))
        return [HoldItem(unbind(path), number, digest, cause) for path, number, digest, cause in rows]

    def item_count(self, hold: int) -> int:
        """How many deletions a hold has."""
        return int(self._db.execute("SELECT count(*) FROM hold_item WHERE hold = ?", (hold,)).get)

    def release(self, upload: int) -> None:
        """Remove this upload from its hold: the path came back, or its document is gone."""
        self._db.execute("DELETE FROM hold_item WHERE upload = ?", (upload,))

    def inherit(self, old_upload: int, new_upload: int, digest: str) -> None:
        """Make the hold about the version that serves the path now."""
        self._db.execute(
            "UPDATE hold_item SET upload = ?, digest = ? WHERE upload = ?", (new_upload, digest, old_upload)
        )

    def end_empty(self, mirror: int, now: float) -> None:
        """End the holds of deletions that have no items left."""
        self._db.execute(
            "UPDATE hold SET ended_at = ?"  # noqa: S608 - a constant of ours
            " WHERE mirror = ? AND kind = ? AND ended_at IS NULL"
            f" AND NOT EXISTS(SELECT 1 FROM hold_item WHERE hold = hold.id) AND {_IS_WHOLE}",
            (now, mirror, DELETIONS),
        )

    def approve(self, hold: int, now: float) -> None:
        """Approve exactly this hold; later deletions get their own hold."""
        self._db.execute("UPDATE hold SET approved_at = ? WHERE id = ?", (now, hold))

    def unapprove_before(self, mirror: int, before: float) -> None:
        """Void approvals given before `before` and not used."""
        self._db.execute(
            "UPDATE hold SET approved_at = NULL WHERE mirror = ? AND ended_at IS NULL AND approved_at < ?",
            (mirror, before),
        )

    def log(self, mirror: int, now: float, n: int) -> None:
        """Log that `n` deletions were released without asking."""
        self._db.execute("INSERT INTO deletion_log(mirror, at, n) VALUES(?, ?, ?)", (mirror, now, n))

    def logged_since(self, mirror: int, since: float) -> int:
        """Deletions released without asking since `since`; forgets older ones."""
        # Kept on disk, so that a restart doesn't reopen the window (promise 5).
        self._db.execute("DELETE FROM deletion_log WHERE mirror = ? AND at < ?", (mirror, since))
        sql = "SELECT coalesce(sum(n), 0) FROM deletion_log WHERE mirror = ?"
        return int(self._db.execute(sql, (mirror,)).get)


@dataclass(frozen=True, slots=True)
class Extent:
    """The size of a hold. `recipes`: pairs of current and wanted recipe."""

    documents: int
    size: int
    recipes: tuple[tuple[str, str], ...] = ()


class Recipes(Table):
    """Recipes that files of serving documents want: allowed, asked about in a hold, or undecided."""

    def wanted(self, mirror: int) -> dict[str, int]:
        """How many serving documents want each other recipe."""
        sql = (
            "SELECT wanted_recipe, count(*) FROM upload"
            " WHERE mirror = ? AND wanted_recipe <> '' AND state = 5 GROUP BY 1"
        )
        return {recipe: int(n) for recipe, n in self._db.execute(sql, (mirror,))}

    def allowed(self, mirror: int) -> frozenset[str]:
        """Recipes under which documents are indexed again without asking."""
        sql = "SELECT recipe FROM recipe_change WHERE mirror = ? AND hold IS NULL"
        return frozenset(recipe for (recipe,) in self._db.execute(sql, (mirror,)))

    def asked(self, mirror: int) -> dict[str, int]:
        """Recipes that need a person's decision, with the number of documents of each."""
        sql = "SELECT recipe, documents FROM recipe_change WHERE mirror = ? AND hold IS NOT NULL"
        return {recipe: int(n) for recipe, n in self._db.execute(sql, (mirror,))}

    def allow(self, mirror: int, recipes: Iterable[str]) -> None:
        """Allow documents under these recipes."""
        sql = "INSERT OR REPLACE INTO recipe_change(mirror, recipe) VALUES(?, ?)"
        self._db.executemany(sql, ((mirror, recipe) for recipe in recipes))

    def ask(self, mirror: int, hold: int, recipes: Mapping[str, int]) -> None:
        """Ask a person about these recipes, with the number of documents of each."""
        self._db.executemany(
            "INSERT OR REPLACE INTO recipe_change VALUES(?, ?, ?, ?)",
            ((mirror, recipe, hold, n) for recipe, n in recipes.items()),
        )

    def stop_asking(self, mirror: int) -> None:
        """Void the questions about this mirror's recipes."""
        self._db.execute("DELETE FROM recipe_change WHERE mirror = ? AND hold IS NOT NULL", (mirror,))
        self._db.execute("DELETE FROM hold WHERE mirror = ? AND kind = ?", (mirror, RENEWALS))

    def forget_allowed(self, mirror: int) -> None:
        """Void the permissions given under the old settings."""
        self._db.execute("DELETE FROM recipe_change WHERE mirror = ? AND hold IS NULL", (mirror,))

    def forget_all(self, mirror: int) -> None:
        """Void questions and permissions: the mirror has another base now."""
        self.stop_asking(mirror)
        self.forget_allowed(mirror)
        self._db.execute(
            "UPDATE upload SET wanted_recipe = '' WHERE mirror = ? AND wanted_recipe <> ''", (mirror,)
        )

    def page(self, mirror: int, recipe: str, after: int, limit: int) -> list[tuple[int, str]]:
        """(upload, path) of serving documents that want this recipe, starting after `after`."""
        sql = (
            "SELECT id, path FROM upload WHERE mirror = ? AND wanted_recipe = ? AND wanted_recipe <> ''"
            " AND state = 5 AND path IS NOT NULL AND id > ? ORDER BY id LIMIT ?"
        )
        rows = self._db.execute(sql, (mirror, recipe, after, limit))
        return [(int(number), unbind(path)) for number, path in rows]

    def members(self, hold: Hold) -> Iterator[tuple[str, int, str]]:
        """(path, upload, wanted recipe) of a hold's documents, by path."""
        sql = f"SELECT u.path, u.id, u.wanted_recipe {_HELD} AND u.path IS NOT NULL ORDER BY u.path"
        for path, number, recipe in self._db.execute(sql, (hold.mirror, hold.id)):
            yield unbind(path), int(number), recipe

    def extent(self, hold: Hold) -> Extent:
        """The size of a hold."""
        sums = f"SELECT count(*), coalesce(sum(u.size), 0) {_HELD}"
        documents, size = self._db.execute(sums, (hold.mirror, hold.id)).get
        pairs = f"SELECT DISTINCT u.recipe, u.wanted_recipe {_HELD} ORDER BY 1, 2 LIMIT 20"
        recipes = tuple(self._db.execute(pairs, (hold.mirror, hold.id)))
        return Extent(int(documents), int(size), recipes)


_HELD = (
    "FROM recipe_change c JOIN upload u ON u.mirror = c.mirror AND u.wanted_recipe = c.recipe"
    " AND u.wanted_recipe <> '' AND u.state = 5 WHERE c.mirror = ? AND c.hold = ?"
)
"""Serving documents that a hold of recipes covers."""
