"""The parser's own process: reads requests from stdin, answers on stdout, one at a time, until stdin ends.

Started as a script, `child.py PARENT MEMORY SECONDS PATHS`: the pid it dies with, its address
space in bytes, the CPU seconds a document may take, and a JSON list of import paths.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from kbsync.index.document import Parsed
    from kbsync.index.fence.messages import Refused

    Readers = dict[str, Callable[[bytes], Parsed]]


def readers() -> Readers:
    """The reader of each format. Loads the parsers, after the fences are up."""
    from kbsync.index.read import epub, mail, notebook, office
    from kbsync.index.read import html as webpage
    from kbsync.index.read import office as slides
    from kbsync.index.read.encoding import decode_declared

    office.warm_up()

    def html(raw: bytes) -> Parsed:
        return webpage.read_html(decode_declared(raw))

    return {
        "pdf": office.read_pdf,
        "docx": office.read_docx,
        "xlsx": office.read_xlsx,
        "odt": office.read_odt,
        "epub": epub.read_epub,
        "rtf": office.read_rtf,
        "pptx": slides.read_pptx,
        "html": html,
        "htm": html,
        "xhtml": html,
        "eml": mail.read_eml,
        "ipynb": notebook.read_ipynb,
    }


def main(load: Callable[[], Readers] = readers) -> None:
    """Raise the fences, load the readers, say so, and answer requests."""
    parent, memory, seconds, paths = sys.argv[1:5]
    sys.path[:] = json.loads(paths)  # as the parent's, in its order: the same kbsync is found first
    from kbsync.index.fence import sandbox
    from kbsync.index.fence.messages import pack

    sandbox.die_with(int(parent))
    # The pipe to the parent, out of reach of libraries that print.
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    os.nice(5)  # whoever searches or saves meanwhile goes first
    sandbox.limit(int(memory))
    fences = sandbox.raise_fences()
    sandbox.die_with(int(parent))  # again: new credentials may have cleared it
    known = load()
    # Only now: the PDF library is unpacked into a file when it is loaded.
    sandbox.forbid_writing()
    answers.write(pack({"resident": _resident(), "fences": fences}))
    answers.flush()
    while (request := _next(sys.stdin.buffer)) is not None:
        sandbox.limit_cpu(float(seconds))
        answers.write(_answer(known, *request))
        answers.flush()


def _next(stream: BinaryIO) -> tuple[str, bytes] | None:
    """The next request's format and document; None at the end."""
    from kbsync.index.fence.messages import LENGTH

    length = stream.read(LENGTH.size)
    if len(length) < LENGTH.size:
        return None
    request = json.loads(stream.read(LENGTH.unpack(length)[0]))
    document = stream.read(int(request["size"]))
    return (str(request["extension"]), document) if len(document) == request["size"] else None


def _answer(known: Readers, extension: str, document: bytes) -> bytes:
    from kbsync.index.fence.messages import Refused, pack_answer

    try:
        return pack_answer(_outcome(known, extension, document), _resident())
    except MemoryError:
        return pack_answer(Refused("", "memory"), _resident())


def _outcome(known: Readers, extension: str, document: bytes) -> Parsed | Refused:
    from kbsync.errors import Rejected
    from kbsync.index.fence.messages import Refused

    try:
        parsed = known[extension](document)
    except Rejected as error:
        return Refused(error.reason, error.code)
    except RecursionError:
        return Refused("cannot be read: it is nested too deeply", "damaged")
    except MemoryError:
        raise
    except Exception as error:  # a stranger's file may raise anything in a parser; it is the file's fault
        return Refused(
            f"cannot be read: the parser failed with {type(error).__name__}: {error!s:.200}", "damaged"
        )
    return parsed if parsed.text.strip() else Refused("no text in it", "no-text")


def _resident() -> int:
    """Bytes of memory in use; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    main()
