"""Whose page is a document of which the list tells no name of ours?

A page is proven by its address, where the list tells one, and by the moment when the document was made:
between the request and a while after it. Without both it stays a doubt, and a document that was made at
another time or is a file by its name is no doubt. It may be nobody's but ours, or a colleague's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from kbsync.contract.target import Listed
from kbsync.core.links import is_address, same_address
from kbsync.core.model import Upload
from kbsync.core.selection import extension_of
from kbsync.engine.terms import Terms

CLOCK_SLACK = 240.0
"""Seconds by which the clocks of the target and this machine may differ after correction, at the most."""

LATE = 900.0
"""Seconds after a request within which its document may have been made."""

EARLIEST, LATEST = 5.0, 120.0
"""Seconds before and after a request: a page of its address that was made in between is its own."""


@dataclass(slots=True)
class Page:
    """The upload of a link file whose outcome is open, and the documents that are or may be it.

    `trusts_times`: that a document was made at another time disproves it; else such a time may only confirm.
    """

    terms: Terms
    row: Upload
    trusts_times: bool
    seen: list[Listed] = field(default_factory=list)
    doubts: list[Listed] = field(default_factory=list)

    def see(self, listed: Listed) -> None:
        """One document of the list."""
        if self._is_of_another_time(listed) or self._is_named(listed.name):
            return
        is_same = any(same_address(self.row.name, one) for one in listed.addresses)
        (self.seen if is_same and self._is_of_the_moment(listed) else self.doubts).append(listed)

    def _is_of_the_moment(self, listed: Listed) -> bool:
        sent_at = self.row.sent_at
        if listed.created is None or sent_at is None:
            return False
        return sent_at - EARLIEST <= listed.created <= sent_at + LATEST

    def _is_of_another_time(self, listed: Listed) -> bool:
        sent_at = self.row.sent_at
        if listed.created is None or sent_at is None or not self.trusts_times:
            return False
        return not sent_at - CLOCK_SLACK <= listed.created <= sent_at + LATE

    def _is_named(self, name: str) -> bool:
        """Another page by its address, or a file: one of ours, or one that the address does not end in."""
        if is_address(name):
            return not same_address(self.row.name, name)
        if self.terms.plan.names == "tagged" and self.terms.naming.read_mangled(name) is not None:
            return True
        last = unquote(urlsplit(self.row.name).path.rpartition("/")[2])
        files = self.terms.limits.extensions - self.terms.limits.links
        return extension_of(name) in files and name != last
