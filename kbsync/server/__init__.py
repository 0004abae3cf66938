"""The listener, which serves HTTP from its own thread."""

from __future__ import annotations
