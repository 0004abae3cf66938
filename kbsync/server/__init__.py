"""The listener: what kbsync answers over HTTP, in a thread of its own."""

from __future__ import annotations
