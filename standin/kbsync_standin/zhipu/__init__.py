"""A stand-in for the Zhipu BigModel knowledge API: documents in memory, answers as documented and seen live.

Switches (`ZhipuBehaviour`) say how it always is, fault kinds (`faults.KINDS`) what goes wrong now and then.
"""

from __future__ import annotations

from kbsync_standin.zhipu.account import HOME_ID
from kbsync_standin.zhipu.app import ZhipuApplication
from kbsync_standin.zhipu.app import ZhipuApplication as application
from kbsync_standin.zhipu.behaviour import ZhipuBehaviour

__all__ = ["HOME_ID", "ZhipuApplication", "ZhipuBehaviour", "application"]
