"""What an upload's answer says of the one document that was sent: code 200 alone is no success. Pure."""

from __future__ import annotations

from kbsync.contract.mirroring import Accepted, PutOutcome
from kbsync.errors import Halted, NameTaken, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.zhipu import words
from kbsync.targets.zhipu.codes import NoRoom
from kbsync.targets.zhipu.wire import Failure, Receipt, Stored

CODE = "failedInfos"


def outcome_of(receipt: Receipt, name: str, cure: str) -> PutOutcome:
    """The outcome of a document sent as `name`, alone in its request; `cure`: what to run then.

    Exactly one success counts whatever name it has; in both lists or in neither: nobody knows.
    """
    stored = _stored(receipt, name)
    if stored is not None:
        return Accepted(stored.id, name="" if stored.name in ("", name) else stored.name)
    if receipt.failed and not receipt.stored:
        return _refused(_failure(receipt, name), name, cure)
    if not receipt.stored:
        return Unsure(f"the vendor's answer names {name} neither as stored nor as failed", code="no-receipt")
    return Unsure(f"the vendor's answer contradicts itself about {name}", code="contradiction")


def _stored(receipt: Receipt, name: str) -> Stored | None:
    """The one success, unless it is named among the failures as well."""
    exact = [one for one in receipt.stored if one.name == name]
    [*candidates] = receipt.stored if len(receipt.stored) == 1 else exact
    if len(candidates) != 1:
        return None
    [stored] = candidates
    if not receipt.failed:
        return stored
    is_of_others = stored.name == name and all(one.name not in ("", name) for one in receipt.failed)
    return stored if is_of_others else None


def _failure(receipt: Receipt, name: str) -> Failure:
    return next((one for one in receipt.failed if one.name == name), receipt.failed[0])


def _refused(failure: Failure, name: str, cure: str) -> TargetError:
    """`failReason` is free text: its words decide who is to blame, and not those of the document's name."""
    said = words.quoted(failure.text) or "no reason is given"
    text = words.without_names(failure.text, name, failure.name)
    if words.says_full(text):
        reason = f"the account is at its limit ({said})"
        is_money = words.says_money(text)
        return (
            Halted("quota", reason, cure=cure, code=CODE)
            if is_money
            else NoRoom(reason, cure=cure, code=CODE)
        )
    if words.says_wrong_type(text):
        return Rejected(f"the vendor does not take this format ({said})", code=CODE)
    if words.says_name_taken(text):
        return NameTaken(f"the vendor has a document of this name already ({said})", code=CODE)
    if words.says_busy(text):
        return Unavailable(f"the vendor is busy ({said})", code=CODE)
    return Rejected(f"the vendor refused the document: {said}", code=CODE)
