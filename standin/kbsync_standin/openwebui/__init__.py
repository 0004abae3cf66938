"""A stand-in for the knowledge bases of Open WebUI 0.12.4: it keeps files in memory and answers as the
server does.
"""

from __future__ import annotations

from kbsync_standin.openwebui.app import OpenWebuiApplication as application
from kbsync_standin.openwebui.store import HOME_ID

__all__ = ["HOME_ID", "application"]
