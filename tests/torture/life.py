"""Simulates a person's use of kbsync at the command line; the folder alone determines the expected result.

In each turn a few things happen: files and the config are edited, states are lost, restored or doubled, a
pass is killed, a disk is unmounted, a service fails. Then the person runs `kbsync --once`, and follows its
instructions, until it exits with 0. From then on every base holds the latest version of each file once, and
no other document of ours (except `LEFT_ALONE`).
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx

from tests.cli.impatient import CLOCK_OFF
from tests.cli.knowledge_bases import Documents, KnowledgeBase, knowledge_base, local
from tests.cli.sandbox import LONGEST, RunResult, Sandbox, words_of
from tests.cli.terminal import Terminal
from tests.postgres.server import programs
from tests.services.access import SERVICES
from tests.torture.exercise import Exercise, PromiseBroken, Tally

TURNS, EVENTS, TRIES = 8, (2, 4), 20

FAULTS: list[dict[str, Any]] = [
    *({"kind": "lost-answer", "op": op} for op in ("upload", "delete", "list")),
    *({"kind": "status", "op": op, "args": {"status": 503}} for op in ("upload", "delete", "list")),
]

LEFT_ALONE = {
    # Only names show there whose a document is: one with an old text may be a colleague's.
    "state-lost": {"zhipu", "dify", "ragflow", "lightrag"},
    # A second state's uploads look like a colleague's.
    "two-states": set(SERVICES),
}
"""Services where documents of another state may remain, since kbsync deletes nothing that may be a
colleague's (promise 6). `verify` must list them, except those under another prefix: they may be another
mirror's, and count as foreign. Nothing else may remain.
"""


@dataclass(frozen=True)
class MirrorEntry:
    """A mirror in the config. `base`: the number of its knowledge base."""

    name: str
    base: int
    prefix: str = ""


class Life:
    """One folder, two knowledge bases, and one or two mirrors of the folder into them."""

    def __init__(self, root: Path, kind: str, bases: list[KnowledgeBase], chance: random.Random) -> None:
        self.sandbox, self.kind, self.bases, self.chance = Sandbox(root), kind, bases, chance
        self.folder, self.mirrors, self.env = (
            self.sandbox.docs,
            [MirrorEntry("handbook", 0)],
            dict[str, str](),
        )
        self.state, self.other_state = self.sandbox.home / "one", self.sandbox.home / "two"
        self.copies, self.old_texts, self.sent_by_others = list[Path](), list[str](), set[tuple[str, str]]()
        self.happened, self.deleted, self.mirrored = set[str](), set[str](), set[str]()
        self.excluded = set[str]()
        self.has_new_state, self.mirrored_prefix, self.has_approved = False, "", False
        self.prefixes_run = set[str]()  # that kbsync may have sent documents under since the last check
        self.tally, self.story, self.number = Tally(), list[str](), 0
        for _ in range(8):
            self.add_file()

    def files(self) -> list[Path]:
        """Return the files that the config selects."""
        files = (path for path in self.folder.rglob("*.md") if path.is_file())
        return sorted(path for path in files if not self.excluded & set(path.relative_to(self.folder).parts))

    def new_path(self) -> Path:
        """Return a new path. No two paths share a stem, so that a name at any service identifies the file."""
        self.number += 1
        folder = self.folder / self.chance.choice(["", "", "guides", "guides/deep", "名"])
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"leaf{self.number:03}.md"

    def text(self) -> str:
        self.number += 1
        return f"the word of this page is falcon{self.number:03} alone\n" * self.chance.choice([1, 1, 40])

    def pick(self, count: int = 1) -> list[Path]:
        files = self.files()
        return self.chance.sample(files, min(count, max(len(files) - 1, 1)))

    def add_file(self) -> None:
        self.new_path().write_text(self.text())

    def edit_files(self) -> None:
        for path in self.pick(self.chance.choice([1, 1, 3])):
            self.old_texts.append(path.read_text())
            path.write_text(self.text())

    def delete_files(self) -> None:
        for path in self.pick(self.chance.choice([1, 1, 2, 5])):
            self.old_texts.append(path.read_text())
            self.deleted.add(path.stem)
            path.unlink()

    def copy_file(self) -> None:
        if self.kind != "lightrag":  # which stores equal texts once
            self.new_path().write_text(self.pick()[0].read_text())

    def rename_file(self) -> None:
        self.pick()[0].rename(self.new_path())

    def rename_folder(self) -> None:
        for folder in [path for path in self.folder.iterdir() if path.is_dir()][:1]:
            folder.rename(self.folder / f"shelf{self.chance.randrange(10**6)}")

    def edit_config(self) -> None:
        """Edit the config once or several times before kbsync runs; the mirror remains recognizable.

        Once there have been several states, only one kind of change happens in a turn: another state may know
        an obsolete mirror, too, which could then match better than the right one.
        """
        edits = [self.rename_mirror, self.move_folder, self.change_prefix, self.toggle_second]
        if self.happened:
            edits = [self.next_change, self.toggle_second]
        else:
            edits.remove(self.next_change)
        for edit in self.chance.sample(edits, min(len(edits), self.chance.choice([1, 2, 2, 3]))):
            self.story.append(f"  {edit.__name__}")
            edit()

    def rename_mirror(self) -> None:
        self.mirrors[0] = replace(self.mirrors[0], name=self.chance.choice(["handbook", "manual", "guide"]))

    def move_folder(self) -> None:
        """Move the folder by a rename, or copy it to another disk."""
        self.number += 1
        before, self.folder = self.folder, self.sandbox.root / f"folder{self.number:03}"
        if self.chance.random() < 0.6:
            before.rename(self.folder)
        else:
            shutil.copytree(before, self.folder)
            shutil.rmtree(before)

    def change_prefix(self) -> None:
        if not self.has_new_state:
            self.mirrors[0] = replace(self.mirrors[0], prefix=self.chance.choice(["", "alpha/", "beta/"]))

    def toggle_second(self) -> None:
        """Add or remove a second mirror of the folder; its base stays unchanged."""
        if len(self.mirrors) == 1:
            self.mirrors.append(MirrorEntry("second", 1))
        else:
            self.mirrors.pop()

    def exclude_folders(self) -> None:
        """Exclude some folders, or none. kbsync deletes the documents of files in them."""
        before = self.files()
        self.excluded = {name for name in ("guides", "deep", "名") if self.chance.random() < 0.3}
        self.deleted.update(path.stem for path in before if path not in self.files())

    def block(self, mirror: MirrorEntry) -> dict[str, Any]:
        block = {"name": mirror.name, "folder": str(self.folder), "settle": "100ms", "prefix": mirror.prefix}
        exclude = [f"{name}/" for name in sorted(self.excluded)]
        return {**block, "exclude": exclude, "target": self.bases[mirror.base].target}

    def configure(self, *blocks: dict[str, Any]) -> None:
        mirrors = list(blocks) or [self.block(mirror) for mirror in self.mirrors]
        self.prefixes_run |= set() if blocks else {self.mirrors[0].prefix}
        self.sandbox.config.parent.mkdir(parents=True, exist_ok=True)
        self.sandbox.config.write_text(json.dumps({"state_dir": str(self.state), "mirrors": mirrors}))

    def refuse(self) -> None:
        """Write a config that must be refused."""
        first = self.block(self.mirrors[0])
        others = [{"name": "twice"}, {"name": "inside", "folder": str(self.folder / "guides")}]
        wrong = [[{**first, "include": []}], *([first, {**first, **other}] for other in others)]
        self.configure(*self.chance.choice(wrong[: 1 if self.kind == "in-state" else None]))
        before, result = self.documents(), self.go("--once", "--json")
        self.require(result.code == 2, f"a wrong config ends with {result.code}: {result.out}{result.err}")
        self.require(self.documents() == before, "a refusal changed a base")

    def may_leave_state(self, manner: str) -> bool:
        """Return whether another state can take over all documents: those with another prefix look like
        another mirror's. A second state learns only from its next audit that the first one deleted documents
        to rename them.
        """
        ignores_prefix = self.kind in ("local", "in-state")
        is_changing = not ignores_prefix and self.prefixes_run != {self.mirrored_prefix}
        return not is_changing or (manner == "state-lost" and self.kind in LEFT_ALONE[manner])

    def leave_state(self, manner: str) -> None:
        """Lose the state. A new one has to adopt the documents."""
        self.has_new_state = True
        self.mirrors[0] = replace(self.mirrors[0], prefix=self.mirrored_prefix)
        self.sent_by_others.update(self.documents()[0])
        self.happened.add(manner)

    def lose_state(self) -> None:
        if not self.may_leave_state("state-lost"):
            return
        self.leave_state("state-lost")
        shutil.rmtree(self.state, ignore_errors=True)

    def copy_state(self) -> None:
        """Copy the whole directory, or run `state backup`, which leaves out knowledge bases."""
        if self.state.exists():
            self.configure()
            self.copies.append(copy := self.sandbox.home / f"copy{len(self.copies)}")
            if self.chance.random() < 0.5:
                shutil.copytree(self.state, copy)
            else:
                copy.mkdir()
                self.sandbox.run("state", "backup", copy / "state.db")

    def restore_state(self) -> None:
        if self.copies and self.may_leave_state("state-lost"):
            self.leave_state("state-lost")
            copy = self.chance.choice(self.copies)
            for file in [self.state] if (copy / "kb").exists() else self.state.glob("state.db*"):
                shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
            shutil.copytree(copy, self.state, dirs_exist_ok=True)

    def change_state(self) -> None:
        if not self.may_leave_state("two-states"):
            return
        self.leave_state("two-states")
        self.state, self.other_state = self.other_state, self.state

    def set_clock(self) -> None:
        self.env = {CLOCK_OFF: self.chance.choice(["0", "-3600", "3600", "-40000000", "800000"])}

    def kill_pass(self) -> None:
        self.configure()
        process = self.sandbox.start("--once", env=self.env, hurried=True)
        time.sleep(self.chance.uniform(0.0, 0.5))
        process.send_signal(self.chance.choice([signal.SIGKILL, signal.SIGHUP, signal.SIGTERM]))
        process.communicate(timeout=LONGEST)
        self.tally.crashes += 1

    def close_terminal(self) -> None:
        """Run the daemon in a terminal while files change, then close the terminal's window."""
        self.configure()
        terminal = Terminal(self.sandbox, columns=200)
        terminal.until("press Ctrl-C to stop")
        self.edit_files()
        time.sleep(self.chance.uniform(0.0, 1.0))
        os.close(terminal.our_end)
        terminal.process.wait(LONGEST)
        os.close(terminal.theirs)

    def inject_fault(self) -> None:
        """Let the service fail a few times."""
        if self.kind in SERVICES:
            fault = {**self.chance.choice(FAULTS), "times": self.chance.choice([1, 2, 3])}
            self.control("faults", fault)

    def unmount(self) -> None:
        """Run with the folder missing, or empty. No searchable document of its files may be deleted."""
        self.configure()
        # Uploads of a killed pass may be cancelled while the file is missing (docs/deletions.md), and the
        # copy of a text may have been sent while its original was being replaced.
        replaced = {sha256(text.encode()).hexdigest() for text in self.old_texts}
        expected, away = self.digests() & self.mirrored - replaced, self.sandbox.root / "away"
        self.folder.rename(away)
        if is_empty := self.chance.random() < 0.5:
            self.folder.mkdir()
        result = self.go("--once", "--json", expected=expected)
        away.rename(self.folder)
        self.require(
            is_empty or result.code == 3, f"without its folder a pass ends with {result.code}: {result.err}"
        )

    def mirror_all(self) -> None:
        """Run `--once`, and every command that it prints, until it prints none."""
        self.configure()
        self.has_approved = False
        for _ in range(TRIES):
            before, result = self.documents()[0], self.go("--once", "--json")
            self.story.append(f"  once: {result.code}")
            if result.code == 0:
                return self.check()
            self.require(
                result.code in (1, 3, 4), f"a pass ends with {result.code}: {result.out}{result.err}"
            )
            halts = [mirror["halt"] for mirror in result.json["mirrors"] if mirror["halt"]]
            if {"prefix-taken", "superseded", "folder-missing"} & {halt["reason"] for halt in halts}:
                self.require(self.documents()[0] == before, "a refusal changed a base")
            self.delete_named(result.err)
            cures = sorted({halt["cure"] for halt in halts if halt["cure"]})
            for fix in cures or ["kbsync retry"][: result.code == 1]:
                self.follow(fix)
            time.sleep(0.5 if result.code == 4 else 0)
        raise self.broken(f"after {TRIES} passes it still says {result.out}{result.err}")

    def delete_named(self, message: str) -> None:
        """Delete at LightRAG the documents that the message names, if another state sent them: LightRAG
        refuses to store their texts a second time.
        """
        for name in sorted(set(re.findall(r'already has this one as ([^"]+)', message))):
            if any(name in label for label, _ in self.sent_by_others):
                self.story.append(f"  delete {name}")
                self.control("documents", {"delete": name})

    def control(self, what: str, body: dict[str, Any]) -> None:
        """Send a command to the stand-in, which simulates the service."""
        url = urljoin(self.bases[0].target["base_url"], f"/_standin/{what}")
        httpx.post(url, json=body).raise_for_status()

    def follow(self, fix: str) -> None:
        """Paste the fix into a shell; a sentence isn't a command."""
        self.story.append(f"  {fix}")
        if fix.startswith("kbsync "):
            yes = ["--yes"] if "approve" in fix else []
            self.has_approved |= bool(yes)
            self.go(*words_of(fix), *yes)
        else:
            path = f"{programs()}:{os.environ['PATH']}"
            completed = subprocess.run(["sh", "-c", fix], env={"PATH": path}, stderr=-1, check=False)
            self.require(completed.returncode == 0, f"{fix}: {completed.stderr!r}")

    def go(self, *words: str, expected: set[str] | None = None) -> RunResult:
        """Run kbsync. `expected`: the files' texts. None of their documents may be deleted, and few others
        unless approved.
        """
        expected, before = self.digests() if expected is None else expected, self.documents()
        result = self.sandbox.go(*words, env=self.env, hurried=True)
        # LightRAG stores a text once, so a renamed file has no document until the server indexed it again.
        # It refuses deletions meanwhile, and an impatient pass doesn't wait for that.
        expected = set() if self.kind == "lightrag" and result.code == 4 else expected
        for old, new in zip(before, self.documents(), strict=True):
            kept_digests = {digest for _, digest in new}  # under any name
            lost = {digest for _, digest in old} & expected - kept_digests
            self.require(not lost, f"documents of files that are there were deleted: {lost}")
            deleted = [path for path, digest in old if digest not in kept_digests]
            # Count files: one may have had a document of each state.
            count = sum(any(stem in path for path in deleted) for stem in self.deleted)
            self.require(self.has_approved or count <= max(5, 0.2 * len(old)), f"{count} deleted unasked")
        return result

    def documents(self) -> list[Documents]:
        return [base.documents("") for base in self.bases]

    def digests(self) -> set[str]:
        return {sha256(path.read_bytes()).hexdigest() for path in self.files()}

    def check(self) -> None:
        self.deleted.clear()
        self.has_new_state, self.mirrored_prefix = False, self.mirrors[0].prefix
        self.prefixes_run = {self.mirrored_prefix}
        self.mirrored = self.digests()
        self.next_change = self.chance.choice([self.rename_mirror, self.move_folder, self.change_prefix])
        documents = self.documents()
        for mirror in self.mirrors:
            self.compare(documents[mirror.base], mirror)
        if self.kind not in SERVICES:
            self.search()

    def compare(self, documents: Documents, mirror: MirrorEntry) -> None:
        """Assert that the base holds a document for each file, with its bytes and path, and no other."""
        surplus = sorted(documents, key=lambda document: document in self.sent_by_others)
        missing, kind = [], self.bases[mirror.base].target["type"]
        prefix = mirror.prefix if kind != "local" else ""
        for path in self.files():
            name = prefix + str(path.relative_to(self.folder))
            digest, parts = sha256(path.read_bytes()).hexdigest(), name.removesuffix(".md").split("/")
            fitting = [
                document
                for document in surplus
                if document[1] == digest and all(part in document[0] for part in parts)
            ]
            missing += [] if fitting else [name]
            for document in fitting[:1]:
                surplus.remove(document)
        if any(kind in LEFT_ALONE[how] for how in self.happened):
            unproven = [document for document in surplus if document in self.sent_by_others]
            if unproven and self.are_reported(unproven, mirror.prefix.rstrip("/")):
                surplus = [document for document in surplus if document not in self.sent_by_others]
        self.tally.lost += len(missing)
        self.tally.duplicated += len(surplus)
        if missing or surplus:
            raise self.broken(f"{kind}: missing {missing}, surplus {surplus}")

    def are_reported(self, surplus: Documents, prefix: str) -> bool:
        for _ in range(TRIES):
            result = self.go("verify", "--json")
            if result.code != 4:  # an injected fault that the passes didn't meet
                break
        verification = result.json["mirrors"][0]
        # A mirror of an old state whose name, folder and prefix all differ from the config is detached.
        detached = sum(verification.get("detached", {}).values())
        listed = len(verification["duplicate"]) + len(verification["orphaned"]) + detached
        return len(surplus) - verification["foreign"] <= listed >= sum(prefix in path for path, _ in surplus)

    def search(self) -> None:
        texts = [path.read_text() for path in self.files()]
        for text in [self.chance.choice(texts), *self.old_texts[-2:]]:
            word = text.split()[6]
            hits = self.sandbox.run("search", word, "--json", "-k", "50").json["hits"]
            paths = [hit["path"] for hit in hits if word in hit["text"]]
            self.require(len(paths) == texts.count(text) * len(self.mirrors), f"{word} is in {paths}")

    def require(self, is_so: bool, sentence: str) -> None:
        if not is_so:
            self.tally.violations += 1
            raise self.broken(sentence)

    def broken(self, sentence: str) -> PromiseBroken:
        return PromiseBroken("\n".join([*self.story, sentence]), self.tally)

    def live(self, turns: int) -> Tally:
        files = [self.add_file, self.edit_files, self.delete_files]
        files += [self.copy_file, self.rename_file, self.rename_folder, self.exclude_folders]
        states = [self.lose_state, self.copy_state, self.restore_state, self.change_state]
        troubles = [self.kill_pass, self.close_terminal, self.unmount, self.refuse, self.set_clock]
        troubles += [self.inject_fault]
        kinds: list[list[Callable[[], None]]] = [files, files, [self.edit_config], states, troubles]
        self.mirror_all()
        for turn in range(1, turns + 1):
            for _ in range(self.chance.randint(*EVENTS)):
                step = self.chance.choice(self.chance.choice(kinds))
                self.story.append(f"{turn}: {step.__name__}")
                step()
                self.tally.steps += 1
            while len(self.files()) < 6:
                self.add_file()
            self.mirror_all()
        return self.tally


def live(kind: str, seed: int, root: Path, turns: int = TURNS) -> Tally:
    """Run the life of this seed. Raises `PromiseBroken` with the history."""
    with knowledge_base(kind, root) as base, local(root / "second") as second:
        life = Life(root, kind, [base, second], random.Random(seed))
        try:
            return life.live(turns)
        except PromiseBroken:
            raise
        except Exception as error:
            raise life.broken(repr(error)) from error
        finally:
            life.sandbox.close()


TARGETS = ("local", "in-state", "postgres", *SERVICES)
EXERCISES: dict[str, Exercise] = {f"life-{kind}": partial(live, kind) for kind in TARGETS}
