"""A stand-in for Zhipu's BigModel knowledge API: it keeps documents in memory and answers as documented and
observed.

Switches (`ZhipuBehaviour`) set its permanent behaviour, faults (`behaviour.KINDS`) change single requests.
"""

from __future__ import annotations

from kbsync_standin.zhipu.account import HOME_ID
from kbsync_standin.zhipu.app import ZhipuApplication
from kbsync_standin.zhipu.app import ZhipuApplication as application
from kbsync_standin.zhipu.behaviour import ZhipuBehaviour

__all__ = ["HOME_ID", "ZhipuApplication", "ZhipuBehaviour", "application"]
