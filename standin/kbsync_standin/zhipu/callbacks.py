"""/callback: the address that is told of every document of the account that names none of its own."""

from __future__ import annotations

from collections.abc import Mapping

from kbsync_standin.zhipu import strict
from kbsync_standin.zhipu.answers import NO_DATA, Json, NoData
from kbsync_standin.zhipu.calling import Callback
from kbsync_standin.zhipu.calls import Call
from kbsync_standin.zhipu.shapes import extra
from kbsync_standin.zhipu.strict import Test

_TESTS: Mapping[str, Test] = {"url": strict.is_address, "callback_header": strict.is_object}


def look(call: Call) -> Json | None:
    """The address in use; no data where there is none."""
    known = call.account.callback
    if known is None:
        return None
    return extra({"url": known.url, "callback_header": dict(known.headers), "be_in_use": 1}, call)


def aim(call: Call) -> NoData:
    """Another address; headers that do not come are none."""
    body = strict.json_body(call.request, _TESTS.keys(), call.rules)
    strict.check_needed(body, ("url",), call.rules)
    strict.check_values(body, _TESTS, call.rules)
    if call.play.effect:
        headers = {str(name): str(value) for name, value in body.get("callback_header", {}).items()}
        call.account.callback = Callback(body["url"], headers)
        call.account.note("callback-set", "", body["url"])
    return NO_DATA


def remove(call: Call) -> NoData:
    """None from now on."""
    if call.play.effect and call.account.callback is not None:
        call.account.note("callback-removed", "", call.account.callback.url)
        call.account.callback = None
    return NO_DATA
