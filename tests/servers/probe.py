"""Sends the same requests to a stand-in and to the real server, and reports differences in status or
shape.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import httpx

from kbsync_standin.application import Application
from kbsync_standin.server import Server

LONGEST = 60.0
"""The most seconds to repeat a probe, by the clock of its side."""
MAX_REPLY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Probe:
    """One request. `{word}` in its texts is replaced by the value that `values` or an earlier probe stored
    under it.

    `file`: name, bytes and type of the part `file_field` of a form, `form` its other fields. `headers`: those
    in addition to those in every request of the side; None removes one of these. `keep`: word → the path of
    its value in the response, such as `data.0.id`. `until`: the condition on the body until which to repeat.
    """

    name: str
    method: str
    path: str
    json: Any = None
    file: tuple[str, bytes, str] | None = None
    file_field: str = "file"
    form: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str | None] = field(default_factory=dict)
    keep: Mapping[str, str] = field(default_factory=dict)
    until: Callable[[Any], bool] | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """The stand-in or the server. `wait`: advances its time."""

    base_url: str
    headers: Mapping[str, str]
    values: Mapping[str, str] = field(default_factory=dict)
    wait: Callable[[float], None] = time.sleep


@contextmanager
def stand_in(
    app: Application[Any, Any], headers: Mapping[str, str], values: Mapping[str, str] = {}
) -> Iterator[Side]:
    """Yield the stand-in's side; its clock moves only while a probe waits."""
    server = Server(app)
    with server.in_thread():
        yield Side(server.url, headers, values, server.advance)


def differences(probes: Iterable[Probe], ours: Side, theirs: Side) -> list[str]:
    """Return one line for each: `probe: key path: the stand-in's value, the server's value`."""
    matching = []
    ours_kept, theirs_kept = dict(ours.values), dict(theirs.values)
    for probe in probes:
        here = shape(_ask(probe, ours, ours_kept))
        theirs_shape = shape(_ask(probe, theirs, theirs_kept))
        matching += [
            f"{probe.name}: {path}: {here.get(path, 'nothing')}, really {theirs_shape.get(path, 'nothing')}"
            for path in sorted(here.keys() | theirs_shape.keys())
            if here.get(path) != theirs_shape.get(path)
        ]
    return matching


@dataclass(frozen=True, slots=True)
class Judgement:
    """`unknown`: differences without a reason. `idle`: reasons without a difference."""

    known_messages: Sequence[str]
    unknown: Sequence[str]
    idle: Sequence[str]


def compare(differences: Iterable[str], reasons: Mapping[str, str]) -> Judgement:
    """`reasons`: a difference, or a pattern (`*`) up to its second colon → the reason."""
    messages, unknown, used = [], [], set()
    for difference in differences:
        key_path = ":".join(difference.split(":")[:2])
        pattern = next((reason for reason in reasons if fnmatchcase(key_path, reason)), None)
        if pattern is None:
            unknown.append(difference)
        else:
            used.add(pattern)
            messages.append(f"{difference} ({reasons[pattern]})")
    return Judgement(messages, unknown, [reason for reason in reasons if reason not in used])


def shape(response: httpx.Response) -> dict[str, str]:
    """Return key path → type: `status` → `200`, `body` → `object`, `body.data[].id` → `string`.

    The types of a list's elements are joined: `null or string`. A key that only some have is `… or nothing`.
    An empty list differs from one with elements.
    """
    result = {"status": {str(response.status_code)}}
    kind = response.headers.get("content-type", "none").partition(";")[0]
    if kind != "application/json":
        return {**_join_types(result), "body": kind}
    _collect_types(response.json(), "body", result)
    return _join_types(result)


def _collect_types(value: Any, key_path: str, types: dict[str, set[str]]) -> None:
    match value:
        case dict():
            types.setdefault(key_path, set()).add("object")
            for key, inner_value in value.items():
                _collect_types(inner_value, f"{key_path}.{key}", types)
        case list():
            types.setdefault(key_path, set()).add("list" if value else "empty list")
            shapes: list[dict[str, set[str]]] = [{} for _ in value]
            for inner_value, element_types in zip(value, shapes, strict=True):
                _collect_types(inner_value, f"{key_path}[]", element_types)
            for inner in {name for element_types in shapes for name in element_types}:
                sets = [element_types.get(inner, {"nothing"}) for element_types in shapes]
                types.setdefault(inner, set()).update(*sets)
        case _:
            types.setdefault(key_path, set()).add(_TYPES[type(value)])


_TYPES = {str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}


def _join_types(types_by_path: Mapping[str, set[str]]) -> dict[str, str]:
    return {key_path: " or ".join(sorted(types)) for key_path, types in types_by_path.items()}


# ---- requests


def _ask(probe: Probe, side: Side, values: dict[str, str]) -> httpx.Response:
    """Return the response after as many tries as `until` needs; `values` gets the values to keep."""
    pause, waited = 0.2, 0.0
    while True:
        response = _send(probe, side, values)
        if probe.until is None or (response.is_success and probe.until(response.json())):
            break
        assert waited < LONGEST, f"{probe.name}: after {waited:.0f} s still {response.text[:500]}"
        side.wait(pause)
        waited += pause
    for name, key_path in probe.keep.items():
        value = response.json()
        for key in key_path.split("."):
            value = value[int(key) if isinstance(value, list) else key]
        values[name] = str(value)
    return response


def _send(probe: Probe, side: Side, values: Mapping[str, str]) -> httpx.Response:
    def fill(value: Any) -> Any:
        match value:
            case str():
                return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), value)
            case dict():
                return {fill(key): fill(inner) for key, inner in value.items()}
            case list():
                return [fill(inner) for inner in value]
        return value

    headers = {
        name: fill(value) for name, value in {**side.headers, **probe.headers}.items() if value is not None
    }
    content: dict[str, Any] = {}
    if probe.file is not None:
        name, data, kind = probe.file
        content = {"files": {probe.file_field: (fill(name), data, kind)}, "data": fill(dict(probe.form))}
    elif probe.form:
        content = {"data": fill(dict(probe.form))}
    elif probe.json is not None:
        content = {"content": json.dumps(fill(probe.json)), "headers": {"content-type": "application/json"}}
    headers |= content.pop("headers", {})
    # Use a new connection each time: some servers reset one on which they returned an error.
    with httpx.Client(timeout=MAX_REPLY_SECONDS, trust_env=False) as client:
        return client.request(probe.method, side.base_url + fill(probe.path), headers=headers, **content)
