"""A stand-in for the knowledge API of Dify: documents in memory, answers as its source makes them."""

from __future__ import annotations

from kbsync_standin.dify.app import DifyApplication as application
from kbsync_standin.dify.workspace import HOME_ID

__all__ = ["HOME_ID", "application"]
