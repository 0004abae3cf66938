"""A stand-in for the GPTBots knowledge API: it keeps documents in memory and answers as documented."""

from __future__ import annotations

from kbsync_standin.gptbots.app import GptbotsApplication as application
from kbsync_standin.gptbots.bot import HOME_ID

__all__ = ["HOME_ID", "application"]
