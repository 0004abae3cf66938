"""A stand-in for Dify's knowledge API: it keeps documents in memory and answers as Dify's source does."""

from __future__ import annotations

from kbsync_standin.dify.app import DifyApplication as application
from kbsync_standin.dify.workspace import HOME_ID

__all__ = ["HOME_ID", "application"]
