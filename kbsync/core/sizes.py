"""Numbers of bytes as people read them."""

from __future__ import annotations


def sized(size: int) -> str:
    """A number of bytes for people: `812 B`, `4.1 kB`, `12 MB`."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 9.95 else f"{amount:.1f} {unit}"
