"""A sandbox with one mirror for each problem that a mirror can have, all in one config and one process."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from kbsync.index.sqlite.writer import LOCK
from kbsync_standin.zhipu import HOME_ID
from tests.cli import without_root
from tests.cli.catalogue import MIRRORS
from tests.cli.pasting import paste
from tests.cli.sandbox import Daemon, eventually
from tests.cli.zhipu import KEY, ZhipuSandbox, ZhipuStandIn

SERVED = ("recut", "refused", "unpaid", "full", "unknown", "emptied", "rejecting", "stuck", "down")
"""Mirrors whose knowledge bases are at separate services."""

RECUT = {"documents": [{"match": "*.md", "zhipu": {"knowledge_type": 2}}]}
"""Settings that the user changed on purpose."""

WAITING = {"poll_first": "50ms", "poll_longest": "300ms", "reembed_tries": 1, "absent_after": "1s"}
PATIENCE = {"stuck": "2s"}
"""How long to wait for vectorizing if the test needs a timeout; elsewhere 60 s."""


class TroubledSandbox(ZhipuSandbox):
    """`break_all` causes every problem, `mend_all` removes the causes.

    Its kbsync lacks root's privileges, and always has short time limits.
    """

    modules = (without_root.__name__, without_root.__name__)

    def __init__(self, root: Path) -> None:
        super().__init__(root, ZhipuStandIn())
        self.services = {name: ZhipuStandIn() for name in SERVED}
        self._blocked_uploads: list[int] = []
        self._is_recut = False

    def folder(self, mirror: str) -> Path:
        return self.root / "folders" / mirror

    def base(self, mirror: str) -> Path:
        return self.root / "bases" / mirror

    def fill(self, mirror: str, count: int = 1, first: int = 0) -> None:
        self.folder(mirror).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            (self.folder(mirror) / f"{number}.md").write_text(f"document {number} of {mirror}")

    def describe(self, *, wrong: bool) -> None:
        """Write the config, correct or with every possible mistake."""
        self.config.parent.mkdir(parents=True, exist_ok=True)
        mirrors = [
            {
                "name": row.name,
                "folder": str(self.folder(row.name)),
                "settle": "100ms",
                **({"include": ["*"]} if row.name == "broken" else {}),
                **(RECUT if row.name == "recut" and self._is_recut else {}),
                "target": self._target(row.name, wrong=wrong),
            }
            for row in MIRRORS
        ]
        self.config.write_text(json.dumps({"mirrors": mirrors}))

    def _target(self, mirror: str, *, wrong: bool) -> dict[str, Any]:
        if mirror not in self.services and not (mirror == "authority" and wrong):
            model = {"embedding": {"type": "onnx", "path": str(self.root / "no-model")}}
            smaller = {"max_bytes": 1000} if mirror == "broken" else {}
            is_model = mirror == "model" and wrong
            return {"type": "local", "path": str(self.base(mirror)), **smaller, **(model if is_model else {})}
        service = self.services.get(mirror, self.service)
        base = "1999999999999999999" if wrong and mirror == "unknown" else HOME_ID
        ca_file = {"ca_file": str(self.config)} if mirror == "authority" else {}
        return {
            "type": "zhipu",
            "base_url": f"{service.url}/api",
            "api_key": KEY,
            "knowledge_id": base,
            "vectorization": {**WAITING, "give_up": PATIENCE.get(mirror, "60s")},
            **ca_file,
        }

    # -- problems --------------------------------------------------------------------------------------

    def settle_in(self) -> None:
        """Create the state in which all mirrors work."""
        for row in MIRRORS:
            self.fill(row.name, 8 if row.name in ("shrunk", "emptied", "recut") else 1)
        (self.folder("broken") / "grows.md").write_text("short")
        self.describe(wrong=False)
        names = ("gone", "unmounted", "shrunk", "recut", "broken", "emptied", "sealed")
        self.run("--once", *(argument for name in names for argument in ("--mirror", name))).check_success()

    def break_all(self) -> None:
        self.folder("gone").rename(self.root / "away")
        self._is_recut = True
        with contextlib.closing(apsw.Connection(str(self.state / "state.db"))) as database:
            database.execute("UPDATE mirror SET root_is_mount = 1 WHERE name = 'unmounted'")
        self.folder("shut").chmod(0)
        for number in range(7):
            (self.folder("shrunk") / f"{number}.md").unlink()
        self._occupy(self.base("occupied"))
        self.base("sealed").chmod(0o500)
        (self.base("sealed") / "index.db").chmod(0o400)
        self._break_documents(self.folder("broken"))
        for name, switches in SWITCHES.items():
            self.services[name].turn(**switches)
        self.services["rejecting"].play(
            "failed-info", op="upload", times=0, args={"reason": "不支持的文件类型"}
        )
        for op in ("upload", "reembed"):
            self.services["stuck"].play("stuck", op=op, times=0)
        self.services["down"].play("status", op="*", times=0, effect=False, args={"status": 503})
        for name in ("rejecting", "stuck"):
            self.fill(name, 5)
        self.describe(wrong=True)

    def _occupy(self, base: Path) -> None:
        """Let another program hold that knowledge base."""
        base.mkdir(parents=True)
        self._blocked_uploads.append(os.open(base / LOCK, os.O_RDWR | os.O_CREAT))
        fcntl.flock(self._blocked_uploads[-1], fcntl.LOCK_EX)

    def _break_documents(self, folder: Path) -> None:
        (folder / "no.pdf").write_text("this is no pdf")
        (folder / "blank.md").write_text(" \n \n")
        (folder / "odd.bin").write_bytes(bytes(range(256)))
        (folder / "large.md").write_text("x" * 1001)
        (folder / "grows.md").write_text("grown " * 200)
        (folder / "shut.md").write_text("nobody may read this")
        (folder / "shut.md").chmod(0)
        (folder / "closed").mkdir(mode=0)

    def mend_all(self) -> None:
        """Do what a person does before pasting the command."""
        (self.root / "away").rename(self.folder("gone"))
        self.folder("shut").chmod(0o700)
        while self._blocked_uploads:
            os.close(self._blocked_uploads.pop())
        self.base("sealed").chmod(0o700)
        (self.base("sealed") / "index.db").chmod(0o600)
        for path in self.folder("broken").iterdir():
            path.chmod(0o700)
            if path.name not in ("0.md", "closed"):
                path.unlink()
        for name, service in self.services.items():
            service.server.faults.clear()
            service.turn(**{switch: RIGHT[switch] for switch in SWITCHES.get(name, {})})
        self.describe(wrong=False)

    def mirrors(self) -> dict[str, dict[str, Any]]:
        """Return `status --json --documents`, by mirror."""
        status_report = self.run("status", "--json", "--documents").json["mirrors"]
        return {mirror["name"]: mirror for mirror in status_report}

    def close(self) -> None:
        super().close()
        for descriptor in self._blocked_uploads:
            os.close(descriptor)


SWITCHES: dict[str, dict[str, Any]] = {
    "refused": {"key_revoked": True},
    "unpaid": {"money_gone": True},
    "full": {"capacity_bytes": 10},
    "emptied": {"base": "emptied"},
}
RIGHT = {"key_revoked": False, "money_gone": False, "capacity_bytes": 1_000_000, "base": "present"}


class Evidence:
    """The outputs about the problems, and of the fixes.

    `pass_run`: a pass. `mirrors_before`, `text`, `quiet`, `checked`: `status` at that time. `watched`, `log`:
    the daemon's `status` and log; `refused`: its message about a bad config. `pasted`: the output of its
    fixes. `mirrors_after`: `status` after them.
    """

    def __init__(self, sandbox: TroubledSandbox) -> None:
        self.sandbox = sandbox
        sandbox.settle_in()
        sandbox.break_all()
        self.pass_run = sandbox.go("--once", env={"LC_ALL": "C"})
        self.mirrors_before = sandbox.mirrors()
        self.text = sandbox.go("status", env={"COLUMNS": "20", "LC_ALL": "C"}).out
        self.quiet = sandbox.run("status", "-q").out
        self.checked = {row.name: self._check(row.name) for row in MIRRORS}
        self._watch()

    def _check(self, mirror: str) -> int:
        return self.sandbox.run("status", "--check", "-q", "--mirror", mirror).code

    def _watch(self) -> None:
        """Run the daemon meanwhile; remove the causes and paste the fixes while it runs."""
        daemon = self.sandbox.watch("-q")
        for row in MIRRORS:
            if row.logged:
                daemon.wait_for_event("mirror.halted", mirror=row.name, reason=row.logged)
        self.watched = self.sandbox.mirrors()
        self.sandbox.config.write_text("mirrors: []")
        daemon.send_signal(signal.SIGHUP)
        self.refused = daemon.wait_for_event("config.refused")
        self.sandbox.mend_all()
        daemon.send_signal(signal.SIGHUP)
        cures = {name: mirror["halt"]["cure"] for name, mirror in self.watched.items() if mirror["halt"]}
        cures["broken"] = "kbsync retry"
        self.pasted = {name: paste(self.sandbox, fix) for name, fix in cures.items() if fix}
        self.mirrors_after = self._when_all_is_well(daemon)
        assert daemon.end() == 0, daemon.log.read_text()
        self.log = daemon.lines()

    def _when_all_is_well(self, daemon: Daemon) -> dict[str, Any]:
        try:
            return eventually(self._all_well, 120)
        except AssertionError:
            unwell = [
                mirror_entry for mirror_entry in self.sandbox.mirrors().values() if not _is_well(mirror_entry)
            ]
            raise AssertionError((unwell, daemon.log.read_text()[-20_000:])) from None

    def _all_well(self) -> dict[str, Any] | None:
        mirrors = self.sandbox.mirrors()
        is_full_again = len(self.sandbox.services["emptied"].ours()) == 8
        return mirrors if is_full_again and all(map(_is_well, mirrors.values())) else None


def _is_well(mirror: dict[str, Any]) -> bool:
    counts = mirror["documents"]
    return mirror["halt"] is None and not any(
        counts[state] for state in ("pending", "indexing", "failed", "held")
    )


@contextlib.contextmanager
def troubled_sandbox(root: Path) -> Iterator[TroubledSandbox]:
    sandbox = TroubledSandbox(root)
    with contextlib.ExitStack() as stack:
        for service in (sandbox.service, *sandbox.services.values()):
            service.arrive()
            stack.callback(service.leave)
        stack.callback(sandbox.close)
        yield sandbox
