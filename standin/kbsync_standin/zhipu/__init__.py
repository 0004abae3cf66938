"""A stand-in for the Zhipu BigModel knowledge API: documents in memory, answers as documented and seen live.

Switches (`ZhipuBehaviour`) say how it always is, fault kinds (`KINDS`) what goes wrong once or a few times.
"""

from __future__ import annotations

from kbsync_standin.zhipu.account import HOME_ID
from kbsync_standin.zhipu.app import ZhipuApplication
from kbsync_standin.zhipu.app import ZhipuApplication as application
from kbsync_standin.zhipu.behaviour import ZhipuBehaviour
from kbsync_standin.zhipu.faults import KINDS

__all__ = ["HOME_ID", "KINDS", "ZhipuApplication", "ZhipuBehaviour", "application"]
