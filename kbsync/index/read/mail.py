"""E-mails: the headers that people look for, the text, and the names of attachments."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from email.header import decode_header
from email.message import Message

from kbsync.index.document import Parsed
from kbsync.index.read.encoding import decode, decode_declared
from kbsync.index.read.html import read_html
from kbsync.index.read.text import tidied
from kbsync.index.read.zip import damaged

_FIELDS = ("From", "To", "Cc", "Date")
_KNOWN = (*_FIELDS, "Subject", "Message-ID", "Received", "Return-Path")


def read_eml(raw: bytes) -> Parsed:
    """Return the message as markdown. Raises `Rejected` for a file without any mail headers."""
    message = email.message_from_bytes(raw, policy=email.policy.compat32)
    if not any(message.get(name) for name in _KNOWN):
        raise damaged("it has no mail headers")
    subject = _header(message, "Subject")
    fields = [f"{name}: {value}" for name in _FIELDS if (value := _header(message, name))]
    attachments = [_plain_header(name) for part in message.walk() if (name := part.get_filename())]
    parts = [f"# {subject}" if subject else "", "\n".join(fields), *_bodies(message)]
    if attachments:
        parts.append("Attachments: " + ", ".join(attachments))
    return Parsed(tidied("\n\n".join(part for part in parts if part)), title=subject or None)


def _header(message: Message, name: str) -> str:
    return _plain_header(str(message.get(name, "")))


def _plain_header(value: str) -> str:
    """Return a header with its encoded words decoded; guesses an undeclared charset."""
    try:
        pieces = decode_header(value)
    except (ValueError, email.errors.HeaderParseError):
        return " ".join(value.split())
    texts = list[str]()
    for text, charset in pieces:
        # Raw bytes outside ASCII come as surrogate escapes.
        content = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        if charset not in (None, "unknown-8bit"):
            texts.append(decode_declared(content, charset))
        elif content:
            texts.append(decode(content))
    return " ".join("".join(texts).split())


def _bodies(message: Message) -> Iterator[str]:
    """Yield the text of each message inside: a forwarded one is a separate message."""
    payload = message.get_payload()
    children = [m for m in payload if isinstance(m, Message)] if isinstance(payload, list) else []
    if message.get_content_type() == "multipart/alternative":
        # The plain text if it has any, otherwise the best version, which mail programs put last.
        plain = [m for m in children if m.get_content_type() == "text/plain" and _text(m)]
        texts = (list(_bodies(alternative)) for alternative in (*plain, *reversed(children)))
        yield from next(filter(None, texts), ())
    elif message.is_multipart():
        for child in children:
            yield from _bodies(child)
    elif message.get_content_disposition() != "attachment" and (text := _text(message)):
        yield text


def _text(part: Message) -> str:
    raw = part.get_payload(decode=True)
    if not isinstance(raw, bytes) or part.get_content_maintype() != "text":
        return ""
    text = decode_declared(raw, part.get_content_charset())
    return read_html(text).text if part.get_content_subtype() == "html" else text.strip()
