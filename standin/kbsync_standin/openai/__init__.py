"""A stand-in for files and vector stores as OpenAI has them: all in memory, answers as documented."""

from __future__ import annotations

from kbsync_standin.openai.app import OpenaiApplication as application
from kbsync_standin.openai.project import HOME_ID

__all__ = ["HOME_ID", "application"]
