"""E-mails: the headers a person looks for, the text, and the names of what is attached."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from email.header import decode_header
from email.message import Message

from kbsync.index.document import Parsed
from kbsync.index.read.encoding import decode, decode_declared
from kbsync.index.read.html import read_html
from kbsync.index.read.markdown import tidied
from kbsync.index.read.zip import damaged

_SHOWN = ("From", "To", "Cc", "Date")
_KNOWN = (*_SHOWN, "Subject", "Message-ID", "Received", "Return-Path")


def read_eml(raw: bytes) -> Parsed:
    """The message as markdown. Raises `Rejected` for what has none of a mail's headers."""
    message = email.message_from_bytes(raw, policy=email.policy.compat32)
    if not any(message.get(name) for name in _KNOWN):
        raise damaged("it has no mail headers")
    subject = _header(message, "Subject")
    fields = [f"{name}: {value}" for name in _SHOWN if (value := _header(message, name))]
    attached = list(_attachments(message))
    parts = [f"# {subject}" if subject else "", "\n".join(fields), *_bodies(message)]
    if attached:
        parts.append("Attachments: " + ", ".join(attached))
    return Parsed(tidied("\n\n".join(part for part in parts if part)), title=subject or None)


def _header(message: Message, name: str) -> str:
    return _plain_header(str(message.get(name, "")))


def _plain_header(value: str) -> str:
    """A header with its encoded words decoded; what declares no charset is guessed."""
    try:
        pieces = decode_header(value)
    except (ValueError, email.errors.HeaderParseError):
        return " ".join(value.split())
    texts = (_header_piece(text, charset) for text, charset in pieces)
    return " ".join("".join(texts).split())


def _header_piece(text: str | bytes, charset: str | None) -> str:
    if isinstance(text, str):  # raw bytes outside ASCII come as surrogate escapes
        text = text.encode("utf-8", "surrogateescape")
    if charset in (None, "unknown-8bit"):
        return decode(text) if text else ""
    return decode_declared(text, charset)


def _bodies(message: Message) -> Iterator[str]:
    """The text of each message inside: a forwarded one is a message of its own."""
    if message.get_content_type() == "multipart/alternative":
        yield from _best(_children(message))
    elif message.is_multipart():
        for child in _children(message):
            yield from _bodies(child)
    elif not _is_attached(message):
        yield from filter(None, [_text(message)])


def _best(alternatives: list[Message]) -> Iterator[str]:
    """The plain text where it says anything, else what else there is, best last as mail programs order it."""
    spoken = [m for m in alternatives if m.get_content_type() == "text/plain" and _text(m)]
    for alternative in (*spoken, *reversed(alternatives)):
        texts = list(_bodies(alternative))
        if texts:
            yield from texts
            return


def _children(message: Message) -> list[Message]:
    payload = message.get_payload()
    return [m for m in payload if isinstance(m, Message)] if isinstance(payload, list) else []


def _is_attached(part: Message) -> bool:
    return part.get_content_disposition() == "attachment" or part.get_content_maintype() != "text"


def _text(part: Message) -> str:
    raw = part.get_payload(decode=True)
    if not isinstance(raw, bytes) or part.get_content_maintype() != "text":
        return ""
    text = decode_declared(raw, part.get_content_charset())
    return read_html(text).text if part.get_content_subtype() == "html" else text.strip()


def _attachments(message: Message) -> Iterator[str]:
    for part in message.walk():
        name = part.get_filename()
        if name:
            yield _plain_header(name)
