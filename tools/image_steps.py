"""Runs the steps of docker/Dockerfile without a container engine, and tests the result.

sudo python tools/image_steps.py [SCRATCH]

It needs root, debootstrap and Linux. It carries out every instruction of the Dockerfile in a Debian from
debootstrap (kept in SCRATCH/base, by default below /tmp/kbsync-image); an unknown instruction is an error.
Then it runs the result as the image defines it: as its user, with a read-only root, without capabilities, and
with kbsync as process 1.

For networks with their own cache or certificate authority, the steps get the environment variables `PIP_*`,
and the paths in `IMAGE_STEPS_BIND` (separated by colons) are mounted into them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
DOCKERFILE = TOP / "docker" / "Dockerfile"
NOT_RUN = ("LABEL", "VOLUME", "HEALTHCHECK", "ENTRYPOINT")
"""Instructions that change no file; the test at the end covers them."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """A line of a Dockerfile with its continuations: `name` in capitals, `rest` as written."""

    name: str
    rest: str

    def words(self) -> list[str]:
        """Return `rest` as a list: a JSON array as such, other text split as a shell would."""
        array = re.search(r"\[.*\]$", self.rest)
        return list(json.loads(array[0])) if array else shlex.split(self.rest)


@dataclass(slots=True)
class Stage:
    """An image under construction."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    working_directory: str = "/"
    user: str = "0:0"


def instructions(text: str) -> list[Instruction]:
    """Return the instructions of a Dockerfile, in order."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    pairs = (line.strip().partition(" ") for line in joined.splitlines() if line.strip())
    return [Instruction(name.upper(), re.sub(r"\s+", " ", rest.strip())) for name, _, rest in pairs]


class Builder:
    """Carries out instructions; `stage` is the current stage, and at the end the image."""

    def __init__(self, scratch: Path) -> None:
        self.stage = Stage(scratch)
        self._scratch = scratch
        self._named: dict[str, Stage] = {}

    def build(self, steps: Sequence[Instruction]) -> None:
        """Carry out all instructions. Raises ValueError for an unknown one."""
        for step in steps:
            print(f"{step.name} {step.rest[:100]}", flush=True)
            if step.name not in NOT_RUN:
                self._carry_out(step)

    def _carry_out(self, step: Instruction) -> None:
        match step.name:
            case "FROM":
                self._begin(step.words())
            case "RUN":
                inside(
                    self.stage,
                    ["sh", "-ec", f"cd {self.stage.working_directory}; {step.rest}"],
                    pip_settings() | self.stage.arguments,
                )
            case "COPY":
                self._copy(step.words())
            case "WORKDIR":
                self.stage.working_directory = step.rest
                (self.stage.root / step.rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "ENV":
                name, _, value = step.rest.partition("=")
                self.stage.environment[name] = value.replace(f"${name}", usual(name))
            case "ARG":
                name, _, value = step.rest.partition("=")
                self.stage.arguments[name] = value
            case "USER":
                self.stage.user = step.rest
            case _:
                raise ValueError(f"{DOCKERFILE}: unknown instruction {step.name}")

    def _begin(self, words: list[str]) -> None:
        suite = re.fullmatch(r"debian:(\w+)-slim", words[0])
        if suite is None:
            raise ValueError(f"debootstrap can't build {words[0]}")
        name = words[2] if len(words) > 2 else "image"
        self.stage = self._named[name] = Stage(self._scratch / name)
        shutil.rmtree(self.stage.root, ignore_errors=True)
        run("cp", "--archive", "--reflink=auto", base(self._scratch, suite[1]), self.stage.root)

    def _copy(self, words: list[str]) -> None:
        source = TOP
        if words[0].startswith("--from="):
            source = self._named[words.pop(0).removeprefix("--from=")].root
        *names, aim = words
        into = self.stage.root / os.path.join(self.stage.working_directory, aim).lstrip("/")
        for name in names:
            target = source / name.lstrip("/")
            if target.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(target, into, symlinks=True, ignore=None if source != TOP else ignored)
            else:
                into.mkdir(parents=True, exist_ok=True)
                shutil.copy(target, into)


def usual(name: str) -> str:
    """Return the default value of an environment variable in a fresh Debian image."""
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" if name == "PATH" else ""


def pip_settings() -> dict[str, str]:
    """Return this machine's settings for pip."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


def run(*words: str | Path) -> None:
    """Run a program; CalledProcessError if it fails."""
    subprocess.run(words, check=True)


def base(scratch: Path, suite: str) -> Path:
    """Return a fresh Debian, built if it doesn't exist yet."""
    folder = scratch / "base" / suite
    if not (folder / "usr").is_dir():
        print(f"debootstrap {suite} …", flush=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        run("debootstrap", "--variant=minbase", suite, folder)
    return folder


def mounting(root: Path, *, read_only: Mapping[Path, str], writable: Mapping[Path, str]) -> Iterator[str]:
    """Yield shell lines that mount a container's usual file systems and these paths (target → source)."""
    yield f"mount --bind {root} {root}"
    for source, aim in (*read_only.items(), *writable.items()):
        yield f"mount --bind {source} {root}{aim}"
        if source in read_only:
            yield f"mount -o remount,bind,ro {root}{aim}"
    yield f"mount -t proc proc {root}/proc"
    yield f"mount --rbind /dev {root}/dev"


def inside(stage: Stage, command: Sequence[str], variables: Mapping[str, str]) -> None:
    """Run the command of a step, as root and with everything writable."""
    bound = [Path(name) for name in os.environ.get("IMAGE_STEPS_BIND", "").split(":") if name]
    bound.append(Path("/etc/resolv.conf"))
    for source in bound:
        prepare(stage.root / str(source)[1:], is_folder=source.is_dir())
    lines = mounting(stage.root, read_only={source: str(source) for source in bound}, writable={})
    chroot = shlex.join(["chroot", str(stage.root), *command])
    environment = {"PATH": usual("PATH"), "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive"}
    script = " && ".join([*lines, chroot])
    subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script],
        env={**environment, **stage.environment, **variables},
        check=True,
    )


def prepare(path: Path, *, is_folder: bool) -> None:
    """Create an empty file or folder as a mount point."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_folder:
        path.mkdir(exist_ok=True)
    elif not path.exists():
        path.touch()


class Container:
    """The image as an engine would run it: its user, its entry point, a read-only root, no capabilities."""

    def __init__(self, stage: Stage, steps: Sequence[Instruction], scratch: Path) -> None:
        self._stage = stage
        self._instructions = {step.name: step.words() for step in steps if step.name in NOT_RUN}
        self._documents, self._state = scratch / "data", scratch / "state"
        for folder in (self._documents, self._state):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o755)
        self._state.chmod(0o777)  # like a Kubernetes emptyDir
        prepare(stage.root / "etc/kbsync/config.yaml", is_folder=False)

    def write(self, name: str, content: bytes) -> None:
        """Write a document as another user."""
        (self._documents / name).write_bytes(content)

    def kbsync(self, *words: str) -> str:
        """Run kbsync through the entry point to its end, and return its output."""
        result = self._run([*self._instructions["ENTRYPOINT"], *words])
        if result.returncode:
            raise SystemExit(
                f"{shlex.join(words)}: exit code {result.returncode}\n{result.stdout}{result.stderr}"
            )
        return result.stdout

    def health(self) -> int:
        """Return the exit code of the health check."""
        return self._run(self._instructions["HEALTHCHECK"]).returncode

    def stop_a_daemon(self) -> int:
        """Start a daemon as process 1, wait until it watches, send SIGTERM, and return its exit code."""
        command = self._command([*self._instructions["ENTRYPOINT"], "--log-format", "json"])
        with subprocess.Popen(
            command, env=self._environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        ) as daemon:
            assert daemon.stderr is not None
            for line in daemon.stderr:
                if "watch.started" in line:
                    break
            children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
            run("kill", "-TERM", *children)
            daemon.stderr.read()
        return daemon.returncode

    def _command(self, words: Sequence[str]) -> list[str]:
        root, user = self._stage.root, self._stage.user.split(":")
        config = TOP / "docker" / "kbsync.yaml"
        lines = mounting(
            root,
            read_only={self._documents: "/data", config: "/etc/kbsync/config.yaml"},
            writable={self._state: "/var/lib/kbsync"},
        )
        limits = (
            f"setpriv --reuid {user[0]} --regid {user[1]} --clear-groups --no-new-privs --bounding-set=-all"
        )
        last = f"exec chroot {root} {limits} {shlex.join(words)}"
        script = " && ".join([*lines, f"mount -o remount,bind,ro {root}", last])
        return ["unshare", "--mount", "--pid", "--net", "--fork", "sh", "-c", script]

    def _run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        command = self._command(words)
        return subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)

    def _environment(self) -> dict[str, str]:
        return {"PATH": usual("PATH"), **self._stage.environment}


def installed(root: Path) -> set[str]:
    """Return the names of the packages in the image's environment, from their metadata."""
    places = root.glob("opt/kbsync/lib/python3.*/site-packages/*.dist-info/METADATA")
    names = (re.search(r"^Name: (.*)$", path.read_text(), re.MULTILINE) for path in places)
    return {re.sub(r"[-_.]+", "-", name[1]).lower() for name in names if name}


def listed(root: Path) -> set[str]:
    """Return the names in the bill of materials, kbsync included."""
    bill = json.loads((root / "opt/kbsync/doc/sbom.cdx.json").read_text())
    parts = [bill["metadata"]["component"], *bill["components"]]
    return {re.sub(r"[-_.]+", "-", part["name"]).lower() for part in parts}


def check(is_so: bool, claim: str) -> None:
    """Print what was checked; exit if it is wrong."""
    if not is_so:
        raise SystemExit(f"FAILED: {claim}")
    print(f"ok: {claim}", flush=True)


def try_out(box: Container, root: Path) -> None:
    """Test what docs/docker.md promises about the image. The health check fails before the first pass."""
    check(listed(root) == installed(root), f"the bill of materials lists all {len(installed(root))} packages")
    check((root / "opt/kbsync/doc/NOTICE").is_file(), "NOTICE is in the image")
    check(not list(root.glob("opt/kbsync/lib/python3.*/site-packages/pip")), "pip is not")
    print(box.kbsync("--version"), end="")
    box.write("badges.md", b"Lost your badge? Ring the bell at the east door.\n")
    box.write("boiler.rtf", rb"{\rtf1\ansi The boiler is in the cellar.}")
    box.write("ferry.html", b"<html><body><h1>Ferry</h1><p>The ferry leaves at dawn.</p></body></html>")
    check(box.health() == 1, "before the first pass it is not healthy")
    print(box.kbsync("--once"), end="")
    check(box.health() == 0, "after it, it is")
    for query, name in (("lost badge", "badges.md"), ("boiler", "boiler.rtf"), ("ferry", "ferry.html")):
        check(name in box.kbsync("search", query), f"{name} is found")
    print(box.kbsync("--once"), end="")
    check(box.stop_a_daemon() == 0, "SIGTERM ends it as process 1 with exit code 0")


def main(arguments: Sequence[str]) -> int:
    """Build the image and test it."""
    scratch = Path(arguments[0] if arguments else "/tmp/kbsync-image")  # noqa: S108
    steps = instructions(DOCKERFILE.read_text())
    builder = Builder(scratch)
    builder.build(steps)
    try_out(Container(builder.stage, steps, scratch), builder.stage.root)
    run("du", "-sh", builder.stage.root)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
