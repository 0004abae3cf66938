"""A stand-in for the Zhipu BigModel knowledge API: documents in memory, answers as documented and seen live.

Switches (`ZhipuBehaviour`) say how it always is, fault kinds (`KINDS`) what goes wrong once or a few times.
"""

from __future__ import annotations

from kbsync_standin.messages import StandInClock, Vendor
from kbsync_standin.zhipu.account import HOME_ID
from kbsync_standin.zhipu.app import ZhipuApplication
from kbsync_standin.zhipu.behaviour import ZhipuBehaviour
from kbsync_standin.zhipu.faults import KINDS

__all__ = ["HOME_ID", "KINDS", "ZhipuApplication", "ZhipuBehaviour", "application"]


def application(
    key: str = "id.secret-for-tests",
    seed: int = 0,
    vectorize: tuple[float, float] = (0.0, 0.0),
    clock: StandInClock | None = None,
) -> Vendor:
    """The vendor's side, holding one empty knowledge base, `HOME_ID`.

    `key`: the only API key it knows. `seed`: of everything left to chance. `vectorize`: least and most
    seconds from an upload until the document is searchable. `clock`: real time by default.
    """
    return ZhipuApplication(key, seed, vectorize, clock or StandInClock())
