"""Clients of embedding and rerank services, for each API dialect."""

from __future__ import annotations
