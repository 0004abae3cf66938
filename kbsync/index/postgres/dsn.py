"""Parses connection strings in the same way as libpq.

This doesn't load psycopg, because otherwise every command that reads the config would have to load it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

# The first `@` before a `/` ends user and password, whatever else they contain.
_URL = re.compile(r"postgres(?:ql)?://(?:([^@/]*)@)?([^/?]*)(?:/([^?]*))?(?:\?(.*))?", re.DOTALL)
_PAIR = re.compile(r"(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s\\]|\\.)*)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_PORTS = re.compile(r"[\d,]*")
_HOST = re.compile(r"(?:\[([^\]]*)\]|([^:]*))(?::(.*))?", re.DOTALL)


def read_dsn(dsn: str) -> dict[str, str]:
    """Return the parameters in a connection string.

    If libpq would refuse the string, the result is undefined.
    """
    url = _URL.fullmatch(dsn)
    if url is None:
        pairs = ((key, value[1:-1] if value[:1] == "'" else value) for key, value in _PAIR.findall(dsn))
        return {key: _ESCAPED.sub(r"\1", value) for key, value in pairs}
    user, places, name, options = (part or "" for part in url.groups())
    hosts = [_HOST.match(part) for part in places.split(",")]
    parameters = {
        "user": user.partition(":")[0],
        "host": ",".join((part[1] or part[2] or "") for part in hosts if part),
        "port": ",".join((part[3] or "") for part in hosts if part),
        "dbname": name,
    }
    parameters |= dict(part.partition("=")[::2] for part in options.split("&"))
    return {key: unquote(value) for key, value in parameters.items() if value}


def may_show_password(dsn: str, parameters: Mapping[str, object]) -> bool:
    """Return whether part of the password would end up in the host, port or database, which kbsync shows.

    This happens if the password contains `/` or `@` instead of `%2F` or `%40`. `parameters` uses libpq's
    names.
    """
    url = _URL.fullmatch(dsn)
    if not _PORTS.fullmatch(str(parameters.get("port") or "")):
        return True
    if url is None:
        return False
    host = str(parameters.get("host") or "")
    # A socket may be in any folder, or be an abstract one, whose name begins with `@`.
    return any("@" in (part or "") for part in url.groups()[1:3]) or "@" in host.lstrip("@").split("/")[0]
