"""A stand-in for the HTTP API of RAGFlow: datasets in memory, answers as documented and as in its source."""

from __future__ import annotations

from kbsync_standin.ragflow.app import RagflowApplication as application
from kbsync_standin.ragflow.chats import HOME_CHAT
from kbsync_standin.ragflow.datasets import HOME_ID

__all__ = ["HOME_CHAT", "HOME_ID", "application"]
