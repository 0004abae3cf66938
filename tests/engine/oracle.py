"""The expected contents of a knowledge base, derived only from the history of the folder.

It never asks the program. Each relaxation is a method here with the reason in its docstring.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Shown = Iterable[tuple[str, str]]
"""Path and text of every document of ours that answers searches."""


@dataclass
class Oracle:
    """The folder as it ought to be mirrored.

    files: path → text of what lies in the folder, whether it can be read now or not.
    found: paths that were searchable and have been wanted ever since, with the paths at which their
        document may still be known (where they were before a rename).
    held: paths that went together with so many others that a person must be asked first.
    left: path and text by id of documents that a lost state may leave behind; nobody is asked about these.
    _vacated: paths where nothing was when a pass began, and nothing has been since.
    _former: new files by path, with the path of the one that was there before and may still be known by it.
    """

    files: dict[str, str] = field(default_factory=dict)
    excluded: tuple[str, ...] = ()
    found: dict[str, set[str]] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    left: dict[str, tuple[str, str] | None] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)
    _past: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _is_held: bool = False
    _moved: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, str] = field(default_factory=dict)
    _going: set[str] = field(default_factory=set)
    _taken: set[str] = field(default_factory=set)
    _remade: set[str] = field(default_factory=set)
    _vacated: set[str] = field(default_factory=set)
    _former: dict[str, str] = field(default_factory=dict)
    _sent: Counter[tuple[str, str]] = field(default_factory=Counter)
    _allowed: Counter[tuple[str, str]] = field(default_factory=Counter)

    # -- what people do --------------------------------------------------------------------------------

    def is_wanted(self, path: str) -> bool:
        return not any(path.startswith(folder) for folder in self.excluded)

    def wanted(self) -> dict[str, str]:
        return {path: text for path, text in self.files.items() if self.is_wanted(path)}

    def wrote(self, path: str, text: str) -> None:
        """A new file there, or another version of the old one.

        One that was renamed and changed before anybody saw it is a new file: no bytes tell what it was.
        """
        self._moved_in(path)
        self._reoccupied(path)
        self._overwritten(path)
        self._put(path, text)

    def moved(self, old: str, new: str, *, is_followed: bool = True) -> None:
        """A rename is followed where the bytes are those seen last and nothing was at the new path.

        What was deleted there since the last pass was there: to a pass, its file was written over.
        Else it is a file that is new at one path and gone at the other, and nothing is owed until the
        new one was found. `is_followed`: both places can be looked at.
        """
        self._moved_in(new)
        self._reoccupied(new)
        text = self.files.pop(old)
        origin = self._moved.pop(old, old)
        claim = self.found.pop(old, None)
        is_same = self._seen.get(origin) == text and not self._is_remade(old, new)
        was_there = new in self.files or new in self._seen
        self._overwritten(new)
        self._put(new, text)
        is_followed = is_followed and old not in self._former
        if claim is not None and is_same and is_followed and not was_there and self.is_wanted(new):
            self.found[new] = claim | {old, origin, new}
            self._moved[new] = origin

    def swapped(self, one: str, other: str) -> None:
        """Two files changed places. Of equal ones only inodes tell, and these name the other's old path."""
        texts = self.files[one], self.files[other]
        self.wrote(one, texts[1])
        self.wrote(other, texts[0])
        self._remade |= {one, other}

    def hid(self, path: str) -> None:
        """It cannot be looked at: a rename that nobody saw yet is a file that is gone from its old place."""
        self._overwritten(path)

    def _overwritten(self, path: str) -> None:
        """What was moved there and never seen there is gone, and its claim with it."""
        if self._moved.pop(path, None) is not None:
            self.found.pop(path, None)

    def _is_remade(self, old: str, new: str) -> bool:
        """It was deleted and made again since the last pass: nobody can tell where it was."""
        if old not in self._remade:
            return False
        self._remade.add(new)
        return True

    def gone(self, path: str) -> None:
        self._remade.add(path)
        self.files.pop(path, None)
        self.found.pop(path, None)
        self._moved.pop(path, None)

    def _put(self, path: str, text: str) -> None:
        self.files[path] = text
        self._no_longer_gone(path)
        self._past[path].add(text)
        self._allowed[path, text] += 1

    def _no_longer_gone(self, path: str) -> None:
        """Files that are back before a pass saw them gone: the others may be too few to ask about."""
        self.held.discard(path)
        if not self._is_held and len(self.held) <= 5:
            self.held.clear()

    def _moved_in(self, path: str) -> None:
        """Something is where another file was when a pass began, that may have seen where this one is now.

        A document by that name may be that file's until its rename was carried out: the bytes must be
        found by one of the two names, and nobody can tell by which.
        """
        if path in self._vacated:
            self._vacated.discard(path)
            for new, origins in self.found.items():
                if path in origins - {new} and self._former.get(new) != path:
                    self._former[path] = new

    def _reoccupied(self, path: str) -> None:
        """Something is at the old path of a rename nobody saw yet: it is no rename any more."""
        for new in [new for new, origin in self._moved.items() if origin == path]:
            self.found.pop(new, None)
            del self._moved[new]

    def select(self, excluded: tuple[str, ...]) -> None:
        """What is deselected may go; what is selected again is sent again."""
        before = self.wanted()
        self.excluded = excluded
        for path in before.keys() - self.wanted().keys():
            self.found.pop(path, None)
        self.may_send_again(path for path in self.wanted().keys() - before.keys())

    def vanished(self, path: str) -> None:
        """Somebody else took the document away: it is not there until `verify --repair` was asked for.

        Until a whole pass has been made it is believed to serve, and what is on its way makes way for it.
        """
        self._taken.add(path)
        self.found = {new: origins for new, origins in self.found.items() if path not in origins}
        self.held.discard(path)
        self.may_send_again()

    def may_send_again(self, paths: Iterable[str] | None = None) -> None:
        """Something that is no fault of the program makes another upload of these versions right."""
        for path in list(self.files if paths is None else paths):
            self._allowed[path, self.files[path]] += 1

    def failed(self, path: str, text: str) -> None:
        """A version that was stored and does not index may be sent once more."""
        self._allowed[path, text] += 1

    def lost_state(self, shown: Mapping[str, tuple[str, str] | None], failed: Iterable[str] = ()) -> None:
        """What the base holds is adopted where name and bytes prove it, and left alone where they do not.

        Files that changed or moved since, and uploads whose end nobody knows, leave documents that
        `verify` names. The list may lag: what it lacks is sent again. `failed`: paths whose newest version
        was not indexed; nobody can tell that an older one still answers, and the document is made anew.
        `shown`: path and text of each document by id.
        """
        self.left = dict(shown)
        self.found = {path: origins for path, origins in self.found.items() if origins.isdisjoint(failed)}
        self._going |= set(failed)
        self._moved.clear()
        self.may_send_again()

    def left_among(self, ids: Mapping[str, tuple[str, str] | None]) -> set[str]:
        """What a lost state left of these documents, or others in its place.

        Where the list is late its documents are sent again. If the answer to that is lost, the look for it
        finds either of the two, and when the file has changed since, only that one can be proven ours.
        """
        left = ids.keys() & self.left.keys()
        replaced = [shown for one, shown in self.left.items() if one not in ids]
        for one, shown in ids.items():
            if one not in left and shown in replaced:
                replaced.remove(shown)
                left.add(one)
        return left

    def made_anew(self, paths: Iterable[str]) -> None:
        """Their documents go before others are made: nothing is owed until these files were sent."""
        for path in paths:
            self._going.add(path)
            self.found.pop(path, None)

    def passing(self) -> None:
        """A pass begins. What is not wanted now may be under deletion from here on.

        A file that comes back meanwhile is a new one: a deletion that was sent and not answered is sent
        again, so that nothing is owed until the file was sent anew or a whole pass has left the document.
        """
        self._going |= self._past.keys() - self.wanted().keys()
        self._vacated |= self._past.keys() - self.files.keys()

    def passing_elsewhere(self) -> None:
        """A pass begins over an empty folder in the place of this one: what is under way is called back.

        What serves is held. Of the others nothing is owed until they were sent anew, or a whole pass has left
        the document. A file that no whole pass saw may be one of the others although it is found: the answer
        to its upload was lost.
        """
        for path in self.found.keys() - self._seen.keys():
            del self.found[path]
        self._going |= self.files.keys() - self.found.keys()

    def passed(self) -> None:
        """A whole pass has looked at the folder."""
        self._going.clear()
        self._taken.clear()
        self._moved.clear()
        self._remade.clear()
        self._seen = dict(self.files)
        self._is_held = True

    def carried_out(self) -> None:
        """A whole pass that nothing halted: only where a rename was refused is an old name left."""
        self._former = {path: new for path, new in self._former.items() if self._is_by_old_name(new)}

    def _is_by_old_name(self, path: str) -> bool:
        return self.found.get(path, {path}) != {path}

    def passed_in_part(self, hidden: Iterable[str]) -> None:
        """A pass could not look at these: they are weighed later, and not together with the others."""
        self.held.difference_update(hidden)
        if not self._is_held and len(self.held) <= 5:
            self.held.clear()

    def was_seen(self, path: str) -> bool:
        """A pass saw a file there, and its document was not taken away by somebody else since.

        What came and went between two passes never was there. Where a document was taken away, the new one
        may be on its way: an upload whose answer is open is called back without a question. The deletion of
        one that was gone before may be decided: no pass saw that it was back in between.
        """
        return path in self._seen and path not in self._taken | self._going

    def is_carried_off(self, path: str) -> bool:
        """What was seen there is at another path now: its document may have followed the file."""
        text = self._seen.get(path)
        return any(text == there != self._seen.get(other) for other, there in self.files.items())

    def asked_first(self, paths: Iterable[str]) -> None:
        """So many are gone at once: none of their documents may go before a person said so."""
        self.held.update(paths)
        self._is_held = False

    # -- what the base does ----------------------------------------------------------------------------

    def sent(self, path: str, text: str) -> None:
        self._sent[path, text] += 1
        self._going.discard(path)

    def sent_too_often(self) -> list[str]:
        return [
            f"{path}: {text!r} was sent {n} times, {self._allowed[path, text]} are right"
            for (path, text), n in self._sent.items()
            if n > self._allowed[path, text]
        ]

    def _is_carried(self, path: str, texts: Mapping[str, set[str]]) -> bool:
        """Its very bytes are found by the name of another file that is gone: the rename may be from there."""
        return bool(self._elsewhere(self.files[path], texts))

    def _elsewhere(self, text: str, texts: Mapping[str, set[str]]) -> set[str]:
        """Names of files that are gone by which the same bytes are found: one may be renamed from there.

        If that pass was cut off and the file changes, the document of its new name may go: the other serves.
        """
        return {one for one, there in texts.items() if one not in self.files and text in there}

    def _is_owed(self, path: str) -> bool:
        """Not where its document may have been another file's, and that one is not wanted any more."""
        other = self._former.get(path)
        return other is None or other in self.wanted()

    def _hand_over(self, texts: Mapping[str, set[str]]) -> None:
        """No document is by this name any more: the next one is the new file's own."""
        for path in [path for path in self._former if not texts[path] & self._past[path]]:
            self.found.pop(path, None)
            del self._former[path]

    def look(self, shown: Shown, after: str) -> None:
        """At every change of the base: is what must be found still found?"""
        texts: dict[str, set[str]] = defaultdict(set)
        for path, text in shown:
            texts[path].add(text)
        for path, text in self.wanted().items():
            if text in texts[path] and path not in self._going | self._taken:
                self.found[path] = {path, self._former.get(path, path), *self._elsewhere(text, texts)}
        for path, origins in list(self.found.items()):
            known = self._past[path].union(*(self._past[one] for one in origins))
            is_found = any(texts[one] & known for one in origins | {path})
            if not is_found and not self._is_carried(path, texts):
                del self.found[path]
                if self._is_owed(path):
                    self.gaps.append(f"{path} is not found any more, after {after}")
        self._hand_over(texts)
        for path in [path for path in self.held if not texts[path]]:
            self.gaps.append(f"{path} was deleted and nobody was asked, after {after}")
            self.held.discard(path)
