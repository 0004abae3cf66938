"""A stand-in for OpenAI's files and vector stores: it keeps everything in memory and answers as
documented.
"""

from __future__ import annotations

from kbsync_standin.openai.app import OpenaiApplication as application
from kbsync_standin.openai.project import HOME_ID

__all__ = ["HOME_ID", "application"]
