"""What other customers of the same knowledge base do meanwhile."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from kbsync_standin.zhipu.account import Account
from kbsync_standin.zhipu.bases import HOME_ID
from kbsync_standin.zhipu.documents import Document, Slicing
from kbsync_standin.zhipu.naming import extension
from kbsync_standin.zhipu.strict import LEGAL, is_whole

_ARGS = ("name", "text", "base64", "knowledge_type", "base", "delete", "url")


def change(account: Account, args: Mapping[str, Any]) -> Document:
    """Upload `name` with `text` or `base64` into `base`, or delete what has the id or name `delete`.

    `url`: it is the page of this address. Raises `ValueError` with a sentence for wrong arguments.
    """
    if unknown := sorted(set(args) - set(_ARGS)):
        raise ValueError(f"there is no argument {', '.join(unknown)}; there are {', '.join(_ARGS)}")
    if "delete" in args:
        return _deleted(account, str(args["delete"]))
    document = _draft(account, args)
    document.is_foreign = True
    document.address = str(args.get("url", ""))
    account.store(document, effect="foreign-stored")
    return document


def _deleted(account: Account, wanted: str) -> Document:
    for document in account.documents.values():
        if document.deleted is None and wanted in (document.id, document.name, document.sent_name):
            account.remove(document, "foreign-deleted")
            return document
    raise ValueError(f"there is no document {wanted!r}")


def _draft(account: Account, args: Mapping[str, Any]) -> Document:
    base = account.base(str(args.get("base", HOME_ID)))
    if base is None:
        raise ValueError("there is no such knowledge base")
    name = args.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("name is missing: the name of the document")
    return account.draft(base, name, _content(args), Slicing(_knowledge_type(args, name)), "as_sent")


def _knowledge_type(args: Mapping[str, Any], name: str) -> int:
    given = args.get("knowledge_type")
    if given is None:
        return next((number for number, kinds in LEGAL.items() if extension(name) in kinds), 1)
    if not is_whole(given):
        raise ValueError(f"knowledge_type is a whole number, not {given!r}")
    return int(given)


def _content(args: Mapping[str, Any]) -> bytes:
    if ("text" in args) == ("base64" in args):
        raise ValueError("either text or base64 is needed: what is in the document")
    given = args.get("text", args.get("base64"))
    if not isinstance(given, str):
        raise ValueError("text and base64 are strings")
    try:
        return given.encode() if "text" in args else base64.b64decode(given, validate=True)
    except (binascii.Error, UnicodeEncodeError) as wrong:
        raise ValueError(f"the content cannot be read: {wrong}") from None
