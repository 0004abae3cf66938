"""A stand-in for the LightRAG server: documents in memory, answers as its source has them (1.5.7)."""

from __future__ import annotations

from kbsync_standin.lightrag.app import LightragApplication as application

__all__ = ["application"]
