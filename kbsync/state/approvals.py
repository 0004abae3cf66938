"""Decisions that only the user can make.

They concern deletions over the limits (see `removals`), and reindexing documents after a change of settings.
Each recipe that costs money has one row: allowed, waiting for an answer, or undecided (ADR 23).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from kbsync.dataclass import dataclass
from kbsync.state.db import Table, unbind

DELETIONS, RENEWALS = "deletions", "renewals"
"""Kinds of holds."""

COLLECTING, RELEASED, PENDING_APPROVAL = "collecting", "released", "asked"
"""States of a hold: its deletions are still being collected, are being carried out without approval, or are
waiting for approval."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A batch of deletions, or a question about documents to reindex. `detail` explains it to the user."""

    id: int
    mirror: int
    made_at: float
    approved_at: float | None
    detail: str = ""
    state: str = PENDING_APPROVAL


class Holds(Table):
    """Reads and writes holds on one connection. A hold covers documents that the user approves together."""

    def open(self, mirror: int, now: float, kind: str = RENEWALS, state: str = PENDING_APPROVAL) -> int:
        """Open a hold."""
        sql = "INSERT INTO hold(mirror, made_at, kind, state) VALUES(?, ?, ?, ?)"
        self._db.execute(sql, (mirror, now, kind, state))
        return self._db.last_insert_rowid()

    def batch(self, mirror: int, now: float) -> int:
        """Return the hold that collects deletions until the batch is decided, opening one if needed."""
        if collecting := self.batches(mirror, decided=False):
            return collecting[0].id
        # Holds without deletions have ended.
        self._db.execute(
            "DELETE FROM hold WHERE mirror = ? AND kind = ?"
            " AND NOT EXISTS(SELECT 1 FROM removal WHERE removal.hold = hold.id)",
            (mirror, DELETIONS),
        )
        return self.open(mirror, now, DELETIONS, COLLECTING)

    def decide(self, hold: int, state: str, now: float) -> None:
        """Release all of the hold's deletions, or ask the user about them."""
        self._db.execute("UPDATE hold SET state = ?, made_at = ? WHERE id = ?", (state, now, hold))

    def batches(self, mirror: int, *, decided: bool) -> list[Hold]:
        """Return the batches with deletions that are neither held nor carried out.

        `decided`: whether to return only the batches that kbsync has decided on, or only the others.
        """
        is_open = "EXISTS(SELECT 1 FROM removal WHERE hold = hold.id AND held = 0)"
        return self._select(f"(state <> '{COLLECTING}') = ? AND {is_open}", mirror, DELETIONS, decided)

    def current(self, mirror: int, kind: str = DELETIONS) -> list[Hold]:
        """Return the questions of this kind that await the user's answer, oldest first.

        A question about deletions is included only once all of its deletions are held.
        """
        is_whole = "(SELECT min(held) FROM removal WHERE hold = hold.id)"
        return self._select(
            f"state = '{PENDING_APPROVAL}' AND (kind <> '{DELETIONS}' OR {is_whole})", mirror, kind
        )

    def _select(self, where: str, *values: object) -> list[Hold]:
        sql = (
            "SELECT id, mirror, made_at, approved_at, detail, state FROM hold"  # noqa: S608 - ours
            f" WHERE mirror = ? AND kind = ? AND {where} ORDER BY id"
        )
        return [Hold(*row) for row in self._db.execute(sql, values)]

    def describe(self, hold: int, detail: str) -> None:
        """Set a hold's explanation."""
        self._db.execute("UPDATE hold SET detail = ? WHERE id = ?", (detail, hold))

    def approve(self, hold: int, now: float) -> None:
        """Approve exactly this hold. Later deletions get a hold of their own."""
        self._db.execute("UPDATE hold SET approved_at = ? WHERE id = ?", (now, hold))

    def unapprove_before(self, mirror: int, before: float) -> None:
        """Void approvals that were given before `before` and haven't been used."""
        sql = "UPDATE hold SET approved_at = NULL WHERE mirror = ? AND approved_at < ?"
        self._db.execute(sql, (mirror, before))


@dataclass(frozen=True, slots=True)
class Extent:
    """The size of a hold. `recipes`: pairs of the current and the desired recipe."""

    documents: int
    size: int
    recipes: tuple[tuple[str, str], ...] = ()


class Recipes(Table):
    """The recipes that serving documents need: allowed, waiting for an answer in a hold, or undecided."""

    def wanted(self, mirror: int) -> dict[str, int]:
        """Return, for each recipe, how many serving documents need it in place of their current one."""
        sql = (
            "SELECT wanted_recipe, count(*) FROM upload"
            " WHERE mirror = ? AND wanted_recipe <> '' AND state = 5 GROUP BY 1"
        )
        return {recipe: int(n) for recipe, n in self._db.execute(sql, (mirror,))}

    def allowed(self, mirror: int) -> frozenset[str]:
        """Return the recipes under which kbsync reindexes documents without asking."""
        sql = "SELECT recipe FROM recipe_change WHERE mirror = ? AND hold IS NULL"
        return frozenset(recipe for (recipe,) in self._db.execute(sql, (mirror,)))

    def pending_approval(self, mirror: int) -> dict[str, int]:
        """Return the recipes that need the user's decision, with the number of documents for each."""
        sql = "SELECT recipe, documents FROM recipe_change WHERE mirror = ? AND hold IS NOT NULL"
        return {recipe: int(n) for recipe, n in self._db.execute(sql, (mirror,))}

    def allow(self, mirror: int, recipes: Iterable[str]) -> None:
        """Allow documents to be indexed under these recipes."""
        sql = "INSERT OR REPLACE INTO recipe_change(mirror, recipe) VALUES(?, ?)"
        self._db.executemany(sql, ((mirror, recipe) for recipe in recipes))

    def request_approval(self, mirror: int, hold: int, recipes: Mapping[str, int]) -> None:
        """Ask the user about these recipes, with the number of documents for each."""
        self._db.executemany(
            "INSERT OR REPLACE INTO recipe_change VALUES(?, ?, ?, ?)",
            ((mirror, recipe, hold, n) for recipe, n in recipes.items()),
        )

    def withdraw_requests(self, mirror: int) -> None:
        """Withdraw the requests for a decision on this mirror's recipes."""
        self._db.execute("DELETE FROM recipe_change WHERE mirror = ? AND hold IS NOT NULL", (mirror,))
        self._db.execute("DELETE FROM hold WHERE mirror = ? AND kind = ?", (mirror, RENEWALS))

    def forget_allowed(self, mirror: int) -> None:
        """Void the permissions that were given under the old settings."""
        self._db.execute("DELETE FROM recipe_change WHERE mirror = ? AND hold IS NULL", (mirror,))

    def forget_all(self, mirror: int) -> None:
        """Void questions and permissions, because the mirror now uses a different base."""
        self.withdraw_requests(mirror)
        self.forget_allowed(mirror)
        self._db.execute(
            "UPDATE upload SET wanted_recipe = '' WHERE mirror = ? AND wanted_recipe <> ''", (mirror,)
        )

    def page(self, mirror: int, recipe: str, after: int, limit: int) -> list[tuple[int, str]]:
        """Return (upload, path) for each serving document that needs this recipe, starting after `after`."""
        sql = (
            "SELECT id, path FROM upload WHERE mirror = ? AND wanted_recipe = ? AND wanted_recipe <> ''"
            " AND state = 5 AND id > ? ORDER BY id LIMIT ?"
        )
        rows = self._db.execute(sql, (mirror, recipe, after, limit))
        return [(int(number), unbind(path)) for number, path in rows]

    def members(self, hold: Hold) -> Iterator[tuple[str, int, str]]:
        """Yield (path, upload, desired recipe) for each document in a hold, ordered by path."""
        sql = f"SELECT u.path, u.id, u.wanted_recipe {_HELD} ORDER BY u.path"
        for path, number, recipe in self._db.execute(sql, (hold.mirror, hold.id)):
            yield unbind(path), int(number), recipe

    def extent(self, hold: Hold) -> Extent:
        """Return a hold's size."""
        sums = f"SELECT count(*), coalesce(sum(u.size), 0) {_HELD}"
        documents, size = self._db.execute(sums, (hold.mirror, hold.id)).get
        pairs = f"SELECT DISTINCT u.recipe, u.wanted_recipe {_HELD} ORDER BY 1, 2 LIMIT 20"
        recipes = tuple(self._db.execute(pairs, (hold.mirror, hold.id)))
        return Extent(int(documents), int(size), recipes)


_HELD = (
    "FROM recipe_change c JOIN upload u ON u.mirror = c.mirror AND u.wanted_recipe = c.recipe"
    " AND u.wanted_recipe <> '' AND u.state = 5 WHERE c.mirror = ? AND c.hold = ?"
)
"""The serving documents whose reindexing a hold covers."""
