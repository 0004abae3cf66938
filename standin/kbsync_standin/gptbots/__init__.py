"""A stand-in for the GPTBots knowledge API: documents in memory, answers as documented.

Switches (`GptbotsBehaviour`) say how it always is, fault kinds (`KINDS`) what goes wrong once or a few times.
"""

from __future__ import annotations

from kbsync_standin.gptbots.app import GptbotsApplication
from kbsync_standin.gptbots.behaviour import KINDS, GptbotsBehaviour
from kbsync_standin.gptbots.bot import HOME_ID
from kbsync_standin.messages import StandInClock, Vendor

__all__ = ["HOME_ID", "KINDS", "GptbotsApplication", "GptbotsBehaviour", "application"]


def application(
    key: str = "app-secret-for-tests",
    seed: int = 0,
    vectorize: tuple[float, float] = (0.0, 0.0),
    clock: StandInClock | None = None,
) -> Vendor:
    """The vendor's side, holding one empty knowledge base, `HOME_ID`.

    `key`: the only API key it knows. `seed`: of everything left to chance. `vectorize`: least and most
    seconds from an upload until the document is searchable. `clock`: real time by default.
    """
    return GptbotsApplication(key, seed, vectorize, clock or StandInClock())
