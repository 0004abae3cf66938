"""The parser's own process, and the frames that it exchanges with its parent.

Started as a script, `child.py PARENT MEMORY SECONDS PATHS WORK` (the parent's pid, the limit of its address
space in bytes, the CPU seconds allowed for a document, a JSON list of import paths, and its task: `read`,
`recognize`, `embed` or `split`), it answers the requests from stdin on stdout, one at a time, until stdin
ends. kbsync is imported late, because that needs PATHS.

To `read`, it forks a child for each document, so that a document that takes over its reader can neither see
nor falsify another (ADR 8). It never has a document in its own memory, which its next child inherits: the
child reads the request itself, and the kernel moves the answer from pipe to pipe.

A frame is an eight-byte big-endian length, followed by that many bytes. A request is a frame of JSON (the
document's name and size, and the number of the scanned page to recognize), followed by the document. An
answer is a single frame: a line of JSON, then the text. The parent never unpickles anything from the process,
which a malicious file may have taken over.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kbsync.errors import Rejected
    from kbsync.index.document import Parsed

    Readers = dict[str, Callable[..., Parsed]]
    """Readers by file extension.

    Each takes the bytes of a document. Those that recognize text in images also take a page number.
    """

LENGTH = struct.Struct(">Q")
READ, RECOGNIZE, EMBED, SPLIT = "read", "recognize", "embed", "split"
NO_FORK = "cannot start a process for a document"
PASSAGE = "passage.txt"
"""The document name that marks a request as a passage to embed; the answer is the passage's vector in
hexadecimal.
"""
TEXTS = "texts.json"
"""The document name that marks a request as texts to split and embed (`kbsync.index.text_process`)."""

_FIELDS = ("title", "tags", "page_starts", "columns", "line_offset", "scanned_pages")

# Limits the characters of a reason, a title or a tag, and the number of tags: an untrusted file may set them.
_MAX_TEXT_LENGTH = 500


def pack(message: dict[str, Any], text: str = "") -> bytes:
    """Return a frame that consists of one line of JSON and a text.

    The text isn't part of the JSON, because that would copy it twice.
    """
    line = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    encoded = text.encode("utf-8", "replace")
    return b"".join([LENGTH.pack(len(line) + 1 + len(encoded)), line, b"\n", encoded])


def unpack_answer(content: bytes) -> tuple[Parsed | Rejected, int]:
    """Parse the response to a request. Return the document's outcome and the process's memory use.

    Raises ValueError if the response is malformed.
    """
    from kbsync.errors import Rejected
    from kbsync.index.document import Flavour, Parsed

    with _value_errors():
        line, _, text = content.partition(b"\n")
        message = json.loads(line)
        resident = int(message["resident"])
        if refused := message.get("refused"):
            return Rejected(_limited(refused["reason"]), code=_limited(refused["code"])[:50]), resident
        fields = message["text"]
        title = None if fields["title"] is None else _limited(fields["title"])
        tags = tuple(_limited(tag) for tag in fields["tags"][:_MAX_TEXT_LENGTH])
        parsed = Parsed(
            text.decode(),
            Flavour(fields["flavour"]),
            title,
            tags,
            page_starts=tuple(int(start) for start in fields["page_starts"]),
            columns=str(fields["columns"]),
            line_offset=int(fields["line_offset"]),
            has_lines=fields["has_lines"] is True,
            scanned_pages=tuple(int(page) for page in fields["scanned_pages"]),
        )
        return parsed, resident


def unpack_ready(content: bytes) -> tuple[int, tuple[str, ...]]:
    """Parse the first message of a process.

    Return the process's memory use in bytes, and the names of the restrictions in force.
    """
    with _value_errors():
        message = json.loads(content)
        return int(message["resident"]), tuple(str(fence) for fence in message["fences"])


def _limited(value: object) -> str:
    return str(value)[:_MAX_TEXT_LENGTH]


@contextmanager
def _value_errors() -> Iterator[None]:
    """Turn any error in the block, which parses a message, into a ValueError."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not an answer: {error!r}") from error


def readers() -> Readers:
    """Return the reader for each format. Call this in the sandbox, because it loads the parsers."""
    from kbsync.index.read.formats import DOCUMENTS, load_reader

    loaded = {extension: load_reader(extension) for extension in DOCUMENTS}
    # Otherwise each child would load and compile what they need for their first document: 1 to 3 ms.
    for extension, document in {"html": b"<p>a", "eml": b"Subject: a\n\na"}.items():
        loaded[extension](document)
    return loaded


def recognizers() -> Readers:
    """Return the readers for scanned pages, by format.

    Call this in the sandbox, because it loads the models.
    """
    from kbsync.index.read import scans

    return {"pdf": scans.load().read_page}


def encoders() -> Readers:
    """Return the reader that computes better vectors.

    Call this in the sandbox, because it loads the model.
    """
    from kbsync.core.text import extension_of
    from kbsync.index.better import passage_reader

    return {extension_of(PASSAGE): passage_reader()}


def splitters() -> Readers:
    """Return the reader that splits and embeds texts.

    Call this in the sandbox, because it loads the model.
    """
    from kbsync.core.text import extension_of
    from kbsync.index.text_process import splitter

    return {extension_of(TEXTS): splitter()}


_LOADERS = {READ: readers, RECOGNIZE: recognizers, EMBED: encoders, SPLIT: splitters}


def main(load: Callable[[], Readers] | None = None) -> None:
    """Enter the sandbox, load the readers, report that the process is ready, and answer requests."""
    parent, memory, seconds, paths, work = sys.argv[1:6]
    sys.path[:] = json.loads(paths)  # in the parent's order, so that the same kbsync comes first
    from kbsync.index.fence import sandbox

    sandbox.die_with(int(parent))
    # The pipe to the parent, out of reach of libraries that print.
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    os.nice(5 if work in (READ, SPLIT) else 19)  # lower priority: searches and saves go first
    sandbox.limit(int(memory))
    # The models of the other tasks have threads, which a fork doesn't copy.
    forks = work == READ and sys.platform == "linux"
    fences = sandbox.raise_fences(forks=forks)
    sandbox.die_with(int(parent))  # repeated: new credentials may have cleared it
    if not forks:
        sandbox.seal()
    loaded_readers = (load or _LOADERS[work])()
    ready = pack({"resident": _resident(), "fences": fences})

    def answer_next() -> bool:
        """Answer one request. Return False if there are no more."""
        requests = sys.stdin.buffer
        length = requests.read(LENGTH.size)
        if len(length) < LENGTH.size:
            return False
        request = json.loads(requests.read(LENGTH.unpack(length)[0]))
        document = requests.read(int(request["size"]))
        if len(document) < request["size"]:
            return False
        sandbox.limit_cpu(float(seconds))

        def frame(message: dict[str, Any], text: str = "") -> bytes:
            return pack({**message, "resident": 0 if forks else _resident()}, text)  # a child keeps nothing

        try:
            answer = frame(*outcome(loaded_readers, str(request["name"]), document, request["page"]))
        except MemoryError:
            answer = frame({"refused": {"reason": "", "code": "memory"}})
        answers.write(answer)
        answers.flush()
        return True

    if forks:
        _fork_for_each_request(answers.fileno(), ready, answer_next)
    else:
        answers.write(ready)
        answers.flush()
        while answer_next():
            pass


def _fork_for_each_request(answers: int, ready: bytes, answer_next: Callable[[], bool]) -> None:
    """Fork a child process to answer each request, until there are no more requests.

    `answers`: the descriptor of the pipe to the parent. Once the first child is running, the message `ready`
    is sent through this pipe. If a child ends without an answer, this process ends with the same exit status
    or signal, because it can't tell where in stdin the next request begins.
    """
    from kbsync.index.fence import sandbox

    gc.freeze()  # a collection in a child would write to all of this memory, and the kernel would copy it
    us = os.getpid()
    while True:
        answer, end_of_child = os.pipe()
        try:
            child = os.fork()
        except OSError as error:  # too many processes, or not enough memory
            sys.exit(f"{NO_FORK}: {error.strerror}")
        if not child:
            sandbox.die_with(us)
            os.dup2(end_of_child, answers)  # only this process may write to the parent
            os.close(end_of_child)
            os.close(answer)
            sandbox.seal()
            answer_next()
            os._exit(0)
        os.close(end_of_child)
        os.write(answers, ready)
        ready = b""
        head = b""
        while len(head) < LENGTH.size and (piece := os.read(answer, LENGTH.size - len(head))):
            head += piece
        remaining = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else 0
        os.write(answers, head)
        # The parent gets the last byte, and sends the next document, only after the child's end.
        while remaining > 1 and (moved := os.splice(answer, answers, remaining - 1)):
            remaining -= moved
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if remaining != 1 or not os.splice(answer, answers, 1):
            if status < 0:
                os.kill(us, -status)
            os._exit(status)
        os.close(answer)


def outcome(
    loaded_readers: Readers, name: str, document: bytes, page: int | None = None
) -> tuple[dict[str, Any], str]:
    """Read the document, or one scanned page of it.

    Return the outcome as a message, and the text. Raises MemoryError.
    """
    from kbsync.core.text import extension_of
    from kbsync.errors import Rejected
    from kbsync.index.read.text import parse_text

    reason, code = "no text found", "no-text"
    try:
        reader = loaded_readers.get(extension_of(name))
        pages = () if page is None else (page,)
        parsed = reader(document, *pages) if reader else parse_text(name, document)
        if parsed.text.strip() or parsed.scanned_pages:
            fields = {field: getattr(parsed, field) for field in _FIELDS}
            fields |= {"flavour": parsed.flavour.value, "has_lines": reader is None}
            return {"text": fields}, parsed.text
    except Rejected as error:
        reason, code = error.reason, error.code
    except RecursionError:
        reason, code = "cannot be read: the document is nested too deeply", "damaged"
    except MemoryError:
        raise
    except Exception as error:  # whatever a parser raises, the file is to blame
        reason = f"cannot be read: the parser failed ({type(error).__name__}: {error!s:.200})"
        code = "damaged"
    return {"refused": {"reason": reason, "code": code}}, ""


def _resident() -> int:
    """Return the number of bytes of memory in use, or 0 if unknown."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    main()
