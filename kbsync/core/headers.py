"""What an HTTP header may hold. Pure."""

from __future__ import annotations

import re

_FIT = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")


def fits_header(value: str) -> bool:
    """Printable ASCII, not empty, without blanks at its ends."""
    return _FIT.fullmatch(value) is not None
