"""Numbers of bytes as people read them. Pure."""

from __future__ import annotations


def sized(count: int) -> str:
    """`count` bytes in decimal units, such as `12.3 MB`."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if round(amount, 1) < 1000:
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
