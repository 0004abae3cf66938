"""Reads e-mails, mailboxes and saved web pages: their text and attachments, and the headers that people
search for.

Each attachment is read by the reader for its format, below a heading with the attachment's name.
Attachments have their own limits. Once these are reached, only the names of further attachments are read; the
message's own text is kept.
"""

from __future__ import annotations

import codecs
import email
import email.policy
import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import field
from email.header import decode_header
from email.message import Message

from kbsync.core.text import extension_of
from kbsync.dataclass import dataclass
from kbsync.errors import Rejected
from kbsync.index.document import Parsed
from kbsync.index.read.calendars import read_ics, read_vcf
from kbsync.index.read.encoding import decode, decode_declared, separate_controls
from kbsync.index.read.html import read_html
from kbsync.index.read.text import document_title, escaped_lines, inner_text, one_line, tidied
from kbsync.index.read.zip import damaged, without_text

_FIELDS = ("From", "To", "Cc", "Date")
_KNOWN = (*_FIELDS, "Subject", "Message-ID", "Received", "Return-Path")

DEEPEST = 6
"""The heading level at which nested messages are read without headers and attachments."""

_MAX_HEADER_BYTES = 64 * 1024
_MAX_ATTACHMENT_BYTES = 32 * 1024 * 1024
_MAX_CHARACTERS = 8 * 1024 * 1024
_MAX_ATTACHMENTS = 1_000
MAX_SECONDS = 20.0
"""CPU seconds allowed for all of a file's attachments."""


@dataclass(slots=True)
class _Allowance:
    """The unused part of the limits that all attachments of a file share."""

    characters: int = _MAX_CHARACTERS
    attachments: int = _MAX_ATTACHMENTS
    seconds: float = field(default_factory=lambda: MAX_SECONDS)
    is_timed: bool = False

    def allows(self, size: int) -> bool:
        """Return whether one more attachment of this size may be read."""
        self.attachments -= 1
        return self.seconds > 0 and self.attachments >= 0 and 0 < size <= _MAX_ATTACHMENT_BYTES

    @contextmanager
    def timer(self) -> Iterator[None]:
        """Raise TimeoutError inside the block once the remaining CPU seconds are used up.

        This only works in the main thread.
        """
        if self.is_timed:  # already running, for the message around this one
            yield
            return
        self.is_timed, started = True, time.process_time()
        before = signal.signal(signal.SIGVTALRM, _raise_timeout)
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, self.seconds)
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)
            self.is_timed = False
            self.seconds -= time.process_time() - started


def _raise_timeout(*_: object) -> None:
    raise TimeoutError


def read_eml(raw: bytes) -> Parsed:
    """Return the message as Markdown. Raises `Rejected` for a file without mail headers."""
    message = _parse(raw)
    if not _has_headers(message):
        raise damaged("it has no mail headers")
    text = tidied("\n\n".join(_letter(message, 1, _Allowance())))
    return Parsed(text, title=_header(message, "Subject") or None)


def read_mbox(raw: bytes) -> Parsed:
    """Return the messages of a mailbox, each as a section. Raises `Rejected` if there are none."""
    allowance = _Allowance()
    letters = ("\n\n".join(_letter(message, 1, allowance)) for message in _split(raw))
    text = tidied("\n\n".join(filter(None, letters)))
    if not text:
        raise damaged("it has no mail headers")
    return Parsed(text)


def read_mhtml(raw: bytes) -> Parsed:
    """Return a web page that was saved as a single file. Raises `Rejected` if the file contains no page."""
    message = _parse(raw)
    for part in message.walk():
        content = part.get_payload(decode=True)
        if part.get_content_type() in ("text/html", "application/xhtml+xml") and isinstance(content, bytes):
            page = read_html(decode_declared(content, part.get_content_charset()))
            title = document_title(page.title or _header(message, "Subject"), page.text)
            return Parsed(page.text, title=title)
    raise damaged("there is no web page in it") if message.is_multipart() else without_text()


def _parse(raw: bytes) -> Message:
    return email.message_from_bytes(raw.removeprefix(codecs.BOM_UTF8), policy=email.policy.compat32)


def _has_headers(message: Message) -> bool:
    return any(message.get(name) for name in _KNOWN)


def _split(raw: bytes) -> Iterator[Message]:
    """Yield the messages of a mailbox.

    Each begins after a blank line, with a line `From …` that ends with a date or is followed by headers.
    """
    raw = raw.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    first, *pieces = (b"\n\n" + raw).split(b"\n\nFrom ")
    messages = [[first.lstrip()]] if _begins_mail(first.lstrip()) else []
    for piece in pieces:
        sender, _, content = piece.partition(b"\n")
        if _DATE.search(sender) or _begins_mail(content):
            messages.append([content])
        else:  # a sentence that begins with "From"
            messages = messages or [[]]
            messages[-1] += [b"\n\nFrom ", piece]
    for lines in messages:
        yield _parse(b"".join(lines).replace(b"\n>From ", b"\nFrom "))


_DATE = re.compile(
    rb" [A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9]{2} [0-9]{2}:[0-9]{2}(?::[0-9]{2})?"
    rb"(?: [-+A-Z][A-Z0-9]{1,4})? [0-9]{4}(?: [-+][0-9]{4}| remote from [^ ]{1,99})? ?$"
)
"""Matches the date in a line such as `From ada@example.org Mon Feb  5 10:11:12 2024`, but not in a sentence
that continues after a date.
"""


def _begins_mail(content: bytes) -> bool:
    """Return whether the text begins with mail headers."""
    name, colon, _ = content[:100].partition(b":")
    is_header = bool(colon) and name.replace(b"-", b"").isalnum()
    return is_header and _has_headers(_parse(content[:_MAX_HEADER_BYTES].partition(b"\n\n")[0]))


def _letter(message: Message, level: int, allowance: _Allowance) -> Iterator[str]:
    """Yield the blocks of a message: its subject, headers, texts and attachments."""
    if subject := _header(message, "Subject"):
        yield f"{'#' * min(level, 6)} {subject}"
    yield "\n".join(f"{name}: {value}" for name in _FIELDS if (value := _header(message, name)))
    yield from _bodies(message, level, allowance)
    parts = list(_attachments(message))
    names = [(_plain_header(part.get_filename() or ""), part) for part in parts]
    if names:
        yield "Attachments: " + ", ".join(name for name, _ in names)
    calendars = [part for part in message.walk() if part.get_content_type() == "text/calendar"]
    invitations = [_content(part).split() for part in calendars if _is_shown(part)]
    for name, part in names:
        content = _content(part)
        # programs attach an invitation a second time, as a file
        is_read = _is_shown(part) or (extension_of(name) == "ics" and content.split() in invitations)
        if is_read or not allowance.allows(len(content)):
            continue
        text = ""
        # An untrusted file may cause any exception; the message is complete without it.
        with suppress(Exception), allowance.timer():
            if extension_of(name) not in ("eml", "mbox"):
                text = inner_text(name, content, level + 1)
            elif level < DEEPEST:
                messages = _split(content) if extension_of(name) == "mbox" else [_parse(content)]
                blocks = (block for inner in messages for block in _letter(inner, level + 2, allowance))
                text = "\n\n".join(filter(None, blocks))
        if text.strip() and len(text) <= allowance.characters:
            allowance.characters -= len(text)
            yield f"{'#' * min(level + 1, 6)} {one_line(name)}"
            yield text


def _content(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _attachments(message: Message) -> Iterator[Message]:
    """Yield the parts that have a name, but not the parts of nested messages."""
    if message.get_filename():
        yield message
    if message.get_content_maintype() != "message":
        for part in _parts(message):
            yield from _attachments(part)


def _parts(message: Message) -> list[Message]:
    return message.get_payload() if message.is_multipart() else []  # type: ignore[return-value]


def _header(message: Message, name: str) -> str:
    return _plain_header(str(message.get(name, "")))


def _plain_header(value: str) -> str:
    """Return a header with its encoded words decoded. An undeclared charset is guessed."""
    with suppress(ValueError, email.errors.HeaderParseError, Rejected):
        texts = list[str]()
        for text, charset in decode_header(value):
            # Raw bytes outside ASCII come as surrogate escapes.
            content = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
            if charset not in (None, "unknown-8bit"):
                texts.append(decode_declared(content, charset))
            elif content:
                texts.append(decode(content))
        return one_line("".join(texts))
    return one_line(separate_controls(value))


def _bodies(message: Message, level: int, allowance: _Allowance) -> Iterator[str]:
    """Yield the texts of a message, and the messages inside it, such as a forwarded one."""
    children = _parts(message)
    if message.get_content_type() == "multipart/alternative":
        versions = [(m.get_content_type(), list(_bodies(m, level, allowance))) for m in children]
        yield from _choose_versions([(kind, blocks) for kind, blocks in versions if blocks])
    elif message.get_content_type() == "message/rfc822" and level < DEEPEST:
        for child in children:
            if not child.keys() and "Content-Transfer-Encoding" in message:
                # Some programs encode a message as a whole, contrary to the standard.
                child["Content-Transfer-Encoding"] = message["Content-Transfer-Encoding"]
                child = _parse(_content(child))
            yield from _letter(child, level + 1, allowance)
    elif message.get_content_type() == "message/delivery-status":  # groups of headers, one per recipient
        for child in children:
            yield "\n".join(f"{name}: {_plain_header(str(value))}" for name, value in child.items())
            yield from _bodies(child, level, allowance)  # some gateways put their explanation here
    elif message.is_multipart():
        for child in children:
            yield from _bodies(child, level, allowance)
    elif _is_shown(message) and (text := _text(message)):
        yield text


def _choose_versions(versions: Sequence[tuple[str, list[str]]]) -> Iterator[str]:
    """Yield the plain-text version or, if it contains more text, the best other version. Then yield any
    invitations.
    """
    plain = next((blocks for kind, blocks in versions if kind == "text/plain"), None)
    # mail programs put the best version last
    rich = next((blocks for kind, blocks in reversed(versions) if kind not in _SEPARATE_KINDS), None)
    plain_words, rich_words = _distinct_words(plain or ()), _distinct_words(rich or ())
    # The plain version has nearly all words of the rich one, or the rich one is a stub.
    missing = len(rich_words - plain_words)
    says_as_much = missing * 10 <= len(rich_words) or len(rich_words) * 2 < len(plain_words)
    if plain is not None and (rich is None or says_as_much):
        yield from plain
    else:
        yield from rich or ()
    for kind, blocks in versions:
        yield from blocks if kind == "text/calendar" else ()


_SEPARATE_KINDS = ("text/plain", "text/calendar", "text/x-amp-html")


def _distinct_words(blocks: Sequence[str]) -> set[str]:
    """Return the words without the addresses of links, because those differ between versions."""
    words = " ".join(blocks).replace("](", " ").split()
    return {word.strip(_PUNCTUATION).lower() for word in words if "://" not in word} - {""}


_PUNCTUATION = "\\#>|*_-.,;:!?()[]{}<>\"'“”‘’"


def _is_shown(part: Message) -> bool:
    """Return whether mail programs show this MIME part within the message text."""
    return part.get_content_maintype() == "text" and part.get_content_disposition() != "attachment"


def _text(part: Message) -> str:
    raw, charset = _content(part), part.get_content_charset()
    try:
        text = decode_declared(raw, charset)
    except Rejected:  # the message is readable without a part that isn't text
        return ""
    match part.get_content_subtype():
        case "html":
            return read_html(text).text
        case "calendar" | "vcard" | "x-vcard" as kind:
            with suppress(Rejected):  # the message is readable without it
                return (read_ics if kind == "calendar" else read_vcf)(raw, charset).text
        case "plain" if str(part.get_param("format")).lower() == "flowed":
            text = _join_flowed(text, deletes_space=str(part.get_param("delsp")).lower() == "yes")
    return escaped_lines(text.strip())


def _join_flowed(text: str, *, deletes_space: bool) -> str:
    """Return the text, rejoining lines that the sender's program broke (RFC 3676).

    Such lines end with a space, which is part of the text unless `deletes_space` is set.
    """
    pieces, is_flowed, above = list[str](), False, 0
    for line in text.split("\n"):
        content = line.lstrip(">")
        depth = len(line) - len(content)  # of the quotation
        content = content.removeprefix(" ")
        if not is_flowed or depth != above:
            pieces += ["\n", f"{'>' * depth} " if depth else ""]
        is_flowed, above = content.endswith(" ") and content != _SIGNATURE, depth
        pieces.append(content[:-1] if is_flowed and deletes_space else content)
    return "".join(pieces)


_SIGNATURE = "-- "
