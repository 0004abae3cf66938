"""A parser process whose documents tell it to misbehave; started in place of the real one."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

sys.path.clear()
sys.path.extend(json.loads(sys.argv[4]))

from kbsync.index.document import Parsed
from kbsync.index.fence import child

documents: list[bytes] = []


def burn() -> str:
    while True:
        pass


def hog() -> str:
    kept = []
    while True:
        kept.append(bytearray(16 << 20))


def crash_unless_new() -> str:
    if len(documents) > 1:
        os.abort()
    return "crash unless new"


def abort_for_memory() -> None:
    os.write(2, b"memory allocation of 8589934592 bytes failed\n")
    os.abort()


def chatter() -> str:
    print("a library talks to itself", flush=True)
    os.write(1, b"x" * 100_000)
    os.write(2, b"y" * 1_000_000)
    return "print"


def unforeseen() -> str:
    raise KeyError("unforeseen")


def recurse() -> str:
    return recurse()


BEHAVIOURS = {
    "hang": lambda: time.sleep(600),
    "burn": burn,
    "hog": hog,
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "crash unless new": crash_unless_new,
    "abort for memory": abort_for_memory,
    "flood": lambda: "many words " * 1_000_000,
    "print": chatter,
    "raise": unforeseen,
    "recurse": recurse,
    "self": lambda: f"{os.getpid()} {os.getpgid(0)} {len(documents)}",
    "blank": lambda: " \n ",
    "surrogate": lambda: "half a \ud83d pair",
}


def behave(document: bytes) -> Parsed:
    documents.append(document)
    text = document.decode()
    return Parsed(str(BEHAVIOURS.get(text, lambda: text)()))


if __name__ == "__main__":
    child.main(lambda: {"html": behave})
