"""A stand-in for RAGFlow's HTTP API: it keeps datasets in memory and answers as the documentation and
source say.
"""

from __future__ import annotations

from kbsync_standin.ragflow.app import RagflowApplication as application
from kbsync_standin.ragflow.chats import HOME_CHAT
from kbsync_standin.ragflow.datasets import HOME_ID

__all__ = ["HOME_CHAT", "HOME_ID", "application"]
