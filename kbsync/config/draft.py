"""A config while it is being read: its values, what is wrong with them, and what is left to look at.

A refused value becomes None, which no file holds otherwise, so that the rest can still be checked and a
person gets every problem at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kbsync.config.problems import ConfigError, Loc, Problem, key_of
from kbsync.config.tree import Tree, Value


class Draft:
    """One config file on its way to a `Config`."""

    def __init__(self, file: Path, tree: Tree) -> None:
        self.file = file
        self.value = tree.value
        self._lines = tree.lines
        self._spoiled: set[Loc] = set()
        # Ordered, each once: two mirrors may suffer from one value.
        self._problems = {Problem(file, line, key_of(loc), text): None for loc, line, text in tree.notes}
        for loc, message in tree.refused:
            self.refuse(loc, message)

    def line(self, loc: Loc) -> int | None:
        """The line of the value at `loc`, or of the block it should be in."""
        while loc and loc not in self._lines:
            loc = loc[:-1]
        return self._lines.get(loc)

    def at(self, loc: Loc) -> Value:
        """The value at `loc`; None where there is none."""
        value = self.value
        for step in loc:
            if isinstance(value, dict) and isinstance(step, str):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        return value

    def put(self, loc: Loc, value: Value) -> None:
        """Replace the value at `loc`, if there is still one."""
        if not loc:
            self.value = value
        elif self.at(loc) is not None:
            block = self.at(loc[:-1])
            block[loc[-1]] = value  # type: ignore[index]  # `at` went this way

    def move(self, old: Loc, new: Loc, value: Value) -> None:
        """Give `new`, a key beside `old`, the value that `old` stood for."""
        block = self.at(old[:-1])
        if isinstance(block, dict):
            block.pop(str(old[-1]), None)
            block[str(new[-1])] = value
        self._lines[new] = self._lines[old]

    def refuse(self, loc: Loc, message: str) -> None:
        """Note a problem with the value at `loc` and go on without that value."""
        if not any(loc[:length] in self._spoiled for length in range(len(loc) + 1)):
            self._note(loc, message)
        self._spoiled.add(loc)
        self.put(loc, None)

    def forgive(self, loc: Loc) -> None:
        """What was wrong with the value at `loc` does not matter: another one takes its place."""
        self._spoiled.discard(loc)
        self._problems = {one: None for one in self._problems if one.key != key_of(loc)}

    def find(self, loc: Loc, message: str, rests_on: Iterable[Loc] = ()) -> None:
        """Note a problem between values, unless one it rests on was refused already."""
        if not any(self._is_spoiled(one) for one in (loc, *rests_on)):
            self._note(loc, message)

    def end(self) -> None:
        """Raises ConfigError if there was any problem."""
        if self._problems:
            raise ConfigError(sorted(self._problems, key=lambda problem: problem.line or 0))

    def problem(self, loc: Loc, message: str) -> Problem:
        """What is wrong with the value at `loc`, with the place it stands at."""
        return Problem(self.file, self.line(loc), key_of(loc), message)

    def _note(self, loc: Loc, message: str) -> None:
        self._problems[self.problem(loc, message)] = None

    def _is_spoiled(self, loc: Loc) -> bool:
        return any(loc[: len(one)] == one or one[: len(loc)] == loc for one in self._spoiled)
