"""The expected contents of a knowledge base, derived only from the history of the folder.

It never queries the program. Each relaxation is a method here with the reason in its docstring.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Listing = Iterable[tuple[str, str]]
"""Path and text of every searchable document of ours."""


@dataclass
class Oracle:
    """The folder as it should be mirrored.

    files: path → text of the folder's files, readable or not.
    serving: paths that were searchable and have been wanted ever since, with the paths that their document
        may still have (from before a rename).
    held_paths: paths that disappeared together with so many others that a person must approve first.
    leftovers: path and text by id of documents that a lost state may leave behind; nobody is asked about
        these.
    _vacated: paths without a file since some pass began.
    _former: new files by path, with the earlier path that the document may still have.
    """

    files: dict[str, str] = field(default_factory=dict)
    excluded: tuple[str, ...] = ()
    serving: dict[str, set[str]] = field(default_factory=dict)
    held_paths: set[str] = field(default_factory=set)
    leftovers: dict[str, tuple[str, str] | None] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)
    _past: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _is_held: bool = False
    _is_state_new: bool = False
    _moved: dict[str, str] = field(default_factory=dict)
    _previous_files: dict[str, str] = field(default_factory=dict)
    _going: set[str] = field(default_factory=set)
    _vanished_paths: set[str] = field(default_factory=set)
    _remade: set[str] = field(default_factory=set)
    _vacated: set[str] = field(default_factory=set)
    _former: dict[str, str] = field(default_factory=dict)
    _upload_counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _allowed: Counter[tuple[str, str]] = field(default_factory=Counter)

    # -- actions by people --------------------------------------------------------------------------------

    def is_wanted(self, path: str) -> bool:
        return not any(path.startswith(folder) for folder in self.excluded)

    def expected_files(self) -> dict[str, str]:
        return {path: text for path, text in self.files.items() if self.is_wanted(path)}

    def wrote(self, path: str, text: str) -> None:
        """Record a new file or a new version.

        A file that was renamed and changed before a pass saw it is a new file: no bytes prove the rename.
        """
        self._moved_in(path)
        self._reoccupied(path)
        self._overwritten(path)
        self._write(path, text)

    def moved(self, old: str, new: str, *, is_followed: bool = True) -> None:
        """Record a rename. It is followed if the bytes are those last seen and the new path had no file.

        A file deleted there since the last pass still counts: to a pass, it was overwritten. Otherwise the
        file is new at one path and missing at the other, and no search has to succeed until the new one was
        found. No rename is followed after the state was lost, until a pass is complete. `is_followed`: both
        paths are readable.
        """
        self._moved_in(new)
        self._reoccupied(new)
        text = self.files.pop(old)
        origin = self._moved.pop(old, old)
        claim = self.serving.pop(old, None)
        is_same = self._previous_files.get(origin) == text and not self._is_remade(old, new)
        was_there = new in self.files or new in self._previous_files
        self._overwritten(new)
        self._write(new, text)
        is_followed = is_followed and old not in self._former and not self._is_state_new
        if claim is not None and is_same and is_followed and not was_there and self.is_wanted(new):
            self.serving[new] = claim | {old, origin, new}
            self._moved[new] = origin

    def swapped(self, first: str, second: str) -> None:
        """Record that two files changed places. Equal files differ only in their inodes, which name the
        other's old path.
        """
        texts = self.files[first], self.files[second]
        self.wrote(first, texts[1])
        self.wrote(second, texts[0])
        self._remade |= {first, second}

    def hid(self, path: str) -> None:
        """Record an unreadable path: a rename that no pass saw becomes a file missing from its old path."""
        self._overwritten(path)

    def _overwritten(self, path: str) -> None:
        """Forget a file that was moved there, but never seen there."""
        if self._moved.pop(path, None) is not None:
            self.serving.pop(path, None)

    def _is_remade(self, old: str, new: str) -> bool:
        """Return whether the file was deleted and created again since the last pass: its old path is then
        unknowable.
        """
        if old not in self._remade:
            return False
        self._remade.add(new)
        return True

    def record_deletion(self, path: str) -> None:
        self._remade.add(path)
        self.files.pop(path, None)
        self.serving.pop(path, None)
        self._moved.pop(path, None)

    def _write(self, path: str, text: str) -> None:
        self.files[path] = text
        self._no_longer_gone(path)
        self._past[path].add(text)
        self._allowed[path, text] += 1

    def _no_longer_gone(self, path: str) -> None:
        """Record files that return before a pass missed them: the others may be too few to need approval."""
        self.held_paths.discard(path)
        self._count_held()

    def _moved_in(self, path: str) -> None:
        """Record a file where another one was when a pass began; that pass may have seen the other's new
        path.

        A document with that name may belong to the other file until its rename is carried out: the bytes must
        be searchable under one of the two names.
        """
        if path in self._vacated:
            self._vacated.discard(path)
            for new, origins in self.serving.items():
                if path in origins - {new} and self._former.get(new) != path:
                    self._former[path] = new

    def _reoccupied(self, path: str) -> None:
        """Record a file at the old path of a rename that no pass saw: it is no longer a rename."""
        for new in [new for new, origin in self._moved.items() if origin == path]:
            self.serving.pop(new, None)
            del self._moved[new]

    def select(self, excluded: tuple[str, ...]) -> None:
        """Record new filters: deselected files may disappear, files selected again are sent again."""
        before = self.expected_files()
        self.excluded = excluded
        for path in before.keys() - self.expected_files().keys():
            self.serving.pop(path, None)
        self.may_send_again(path for path in self.expected_files().keys() - before.keys())

    def vanished(self, path: str) -> None:
        """Record a deletion by another user: the document stays missing until `verify --repair` runs.

        Until the next complete pass kbsync believes that it serves, and drops other uploads for it.
        """
        self._vanished_paths.add(path)
        self.serving = {new: origins for new, origins in self.serving.items() if path not in origins}
        self.held_paths.discard(path)
        if self._is_state_new:  # a new state counts only the documents that are left
            self._count_held()
        self.may_send_again()

    def may_send_again(self, paths: Iterable[str] | None = None) -> None:
        """Record an event, not caused by the program, that allows another upload of these versions."""
        for path in list(self.files if paths is None else paths):
            self._allowed[path, self.files[path]] += 1

    def failed(self, path: str, text: str) -> None:
        """Record that a version was stored but failed to index; it may be sent once more."""
        self._allowed[path, text] += 1

    def lost_state(
        self, search_results: Mapping[str, tuple[str, str] | None], failed: Iterable[str] = ()
    ) -> None:
        """Record a lost state: kbsync adopts documents with the right name and bytes and leaves the others
        alone.

        Files that changed or moved since, and uploads with an unknown end, leave documents that `verify`
        reports. The list may lag: documents that it lacks are sent again. `failed`: paths whose newest
        version failed to index; since nothing shows that an older one still serves, the document is created
        again. `search_results`: path and text of each document by id.
        """
        self.leftovers = dict(search_results)
        self.serving = {path: origins for path, origins in self.serving.items() if origins.isdisjoint(failed)}
        self._going |= set(failed)
        for path in self._moved:  # a new state knows no former names
            self.serving.pop(path, None)
        self._moved.clear()
        self._is_state_new, self._is_held = True, False
        self._count_held()
        self.may_send_again()

    def find_leftovers(self, ids: Mapping[str, tuple[str, str] | None]) -> set[str]:
        """Return which of these documents a lost state left, or others in their place.

        If the list lags, its documents are sent again. If that response is lost, the search for the document
        finds either of the two, and after another change of the file only that one can be proven ours.
        """
        left_ids = ids.keys() & self.leftovers.keys()
        replaced = [result for remote_id, result in self.leftovers.items() if remote_id not in ids]
        for remote_id, search_result in ids.items():
            if remote_id not in left_ids and search_result in replaced:
                replaced.remove(search_result)
                left_ids.add(remote_id)
        return left_ids

    def expect_recreation(self, paths: Iterable[str]) -> None:
        """Record that documents are deleted before others are created: no search has to succeed until these
        files were sent.
        """
        for path in paths:
            self._going.add(path)
            self.serving.pop(path, None)

    def passing(self) -> None:
        """Begin a pass. Unwanted documents may be being deleted from here on.

        A file that returns meanwhile counts as new: an unanswered deletion is sent again, so no search must
        succeed until the file was sent again or a complete pass kept the document.
        """
        self._going |= self._past.keys() - self.expected_files().keys()
        self._vacated |= self._past.keys() - self.files.keys()

    def passing_elsewhere(self) -> None:
        """Begin a pass over an empty folder in place of this one: uploads in progress are cancelled.

        Searchable documents are held. For the others no search has to succeed until they were sent again or
        a complete pass kept the document. A file that no complete pass saw may be one of the others even if
        it is searchable: the response to its upload was lost.
        """
        for path in self.serving.keys() - self._previous_files.keys():
            del self.serving[path]
        self._going |= self.files.keys() - self.serving.keys()

    def passed(self) -> None:
        """Record the end of a complete pass over the folder."""
        self._going.clear()
        self._vanished_paths.clear()
        self._moved.clear()
        self._remade.clear()
        self._previous_files = dict(self.files)
        self._is_held = True
        self._is_state_new = False

    def carried_out(self) -> None:
        """Record a complete pass that nothing halted: an old name only remains if a rename was refused."""
        self._former = {path: new for path, new in self._former.items() if self._is_by_old_name(new)}

    def _is_by_old_name(self, path: str) -> bool:
        return self.serving.get(path, {path}) != {path}

    def passed_in_part(self, hidden: Iterable[str]) -> None:
        """Record a pass that couldn't read these paths: they are counted later, apart from the others."""
        self.held_paths.difference_update(hidden)
        self._count_held()

    def _count_held(self) -> None:
        """Forget missing files that became too few to need approval before a complete pass held them."""
        if not self._is_held and len(self.held_paths) <= 5:
            self.held_paths.clear()

    def was_seen(self, path: str) -> bool:
        """Return whether a pass saw a file there whose document nobody has deleted since.

        A file that came and went between two passes doesn't count. If its document was deleted, the new one
        may be in progress: an upload without a response is cancelled without a question. The deletion of a
        file that was missing before may already be decided: no pass saw its return.
        """
        return path in self._previous_files and path not in self._vanished_paths | self._going

    def is_carried_off(self, path: str) -> bool:
        """Return whether the file seen there is at another path now: its document may have followed it."""
        text = self._previous_files.get(path)
        return any(
            text == other_text != self._previous_files.get(other) for other, other_text in self.files.items()
        )

    def hold_for_approval(self, paths: Iterable[str]) -> None:
        """Record that so many files are missing at once that their documents need approval first."""
        self.held_paths.update(paths)
        self._is_held = False

    # -- changes of the base -----------------------------------------------------------------------------

    def record_upload(self, path: str, text: str) -> None:
        self._upload_counts[path, text] += 1
        self._going.discard(path)

    def sent_too_often(self) -> list[str]:
        return [
            f"{path}: {text!r} was sent {n} times, {self._allowed[path, text]} are right"
            for (path, text), n in self._upload_counts.items()
            if n > self._allowed[path, text]
        ]

    def _is_carried(self, path: str, texts: Mapping[str, set[str]]) -> bool:
        """Return whether the same bytes are searchable under the name of another missing file: the rename
        may be from there.
        """
        return bool(self._elsewhere(self.files[path], texts))

    def _elsewhere(self, text: str, texts: Mapping[str, set[str]]) -> set[str]:
        """Return names of missing files under which the same bytes are searchable: one may be renamed from
        there.

        If that pass was interrupted and the file changes, the document with its new name may be deleted: the
        other one serves.
        """
        return {path for path, known_texts in texts.items() if path not in self.files and text in known_texts}

    def _is_owed(self, path: str) -> bool:
        """Return whether searches must find this path: not if its document may have been another file's
        that is no longer wanted.
        """
        other = self._former.get(path)
        return other is None or other in self.expected_files()

    def _hand_over(self, texts: Mapping[str, set[str]]) -> None:
        """Record that no document has this name any more: the next one is the new file's own."""
        for path in [path for path in self._former if not texts[path] & self._past[path]]:
            self.serving.pop(path, None)
            del self._former[path]

    def check(self, listing: Listing, after: str) -> None:
        """Check at every change of the base that everything required is still searchable."""
        texts: dict[str, set[str]] = defaultdict(set)
        for path, text in listing:
            texts[path].add(text)
        for path, text in self.expected_files().items():
            if text in texts[path] and path not in self._going | self._vanished_paths:
                self.serving[path] = {path, self._former.get(path, path), *self._elsewhere(text, texts)}
        for path, origins in list(self.serving.items()):
            texts_before = self._past[path].union(*(self._past[origin] for origin in origins))
            is_found = any(texts[origin] & texts_before for origin in origins | {path})
            if not is_found and not self._is_carried(path, texts):
                del self.serving[path]
                if self._is_owed(path):
                    self.gaps.append(f"{path} is not found any more, after {after}")
        self._hand_over(texts)
        for path in [path for path in self.held_paths if not texts[path]]:
            self.gaps.append(f"{path} was deleted and nobody was asked, after {after}")
            self.held_paths.discard(path)
