"""From a fault on one document to what is in store for it."""

from __future__ import annotations

import math
from typing import Any

from kbsync_standin.zhipu.calling import Calling
from kbsync_standin.zhipu.documents import CORRUPT, HONEST, Disguise, FailInfo, Failing, Phase
from kbsync_standin.zhipu.plays import Play
from kbsync_standin.zhipu.vectorizing import PLAIN, Script

_SHOWN_FIELDS = {"stat": "embedding_stat", "fail-info": "failInfo"}


def script_of(play: Play) -> Script:
    """What `play` decides when a document is stored or vectorized again."""
    match play.kind:
        case "stuck":
            return _stuck(play)
        case "polls":
            return Script(polls=play.whole("n", 3))
        case "fails":
            return Script(failing=_failing(play))
        case "relapse":
            back = play.seconds("after", 5.0)
            return Script(tail=(Phase(back, 0), Phase(back + play.seconds("back", 1.0), 1)))
        case "fails-later":
            return Script(tail=(Phase(play.seconds("after", 5.0), 2, _info(play)),))
        case "unlisted":
            return Script(unlisted=play.seconds("seconds", 15.0))
        case "detail-missing":
            return Script(undetailed=play.seconds("seconds", 15.0))
        case "callback":
            return Script(calling=Calling(play.word("form", "never"), play.seconds("seconds", 5.0)))
        case _:
            return _disguised(play)


def disguise_of(play: Play) -> Disguise:
    """What `play` makes an item show."""
    match play.kind:
        case "stat" | "fail-info":
            return _shown(_SHOWN_FIELDS[play.kind], play)
        case "url" if "to" in play.args:
            return Disguise({"url": play.args["to"]})
        case "url":
            return Disguise(url=play.word("form", "missing"))
        case "fields":
            return Disguise(dict(play.arg("set", {})), play.names("missing"))
        case _:
            return HONEST


def _shown(name: str, play: Play) -> Disguise:
    if play.arg("missing", False):
        return Disguise(without=(name,))
    value: Any = play.arg("value", None)
    return Disguise({name: value})


def _stuck(play: Play) -> Script:
    if play.arg("searchable", False):
        return Script(disguise=Disguise({"embedding_stat": 0}))
    return Script(stuck=True)


def _failing(play: Play) -> Failing:
    runs = play.whole("runs", 1) or -1
    return Failing(runs, None if play.arg("silent", False) else _info(play))


def _info(play: Play) -> FailInfo:
    return FailInfo(play.whole("code", CORRUPT.code), str(play.arg("text", CORRUPT.text)))


def _disguised(play: Play) -> Script:
    disguise = disguise_of(play)
    if disguise is HONEST:
        return PLAIN
    return Script(disguise=disguise, disguised=play.seconds("seconds", math.inf))
