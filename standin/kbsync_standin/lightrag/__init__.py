"""A stand-in for the LightRAG server: it keeps documents in memory and answers as version 1.5.7 does."""

from __future__ import annotations

from kbsync_standin.lightrag.app import LightragApplication as application

__all__ = ["application"]
