"""The library for an assistant: four tools, and documents as resources.

Arguments are checked against the tool's schema. Failures become tool errors, in a sentence that a model can
act on. Each response comes twice: as JSON that follows a schema, and as text.
"""

from __future__ import annotations

import asyncio
import os
import re
import urllib.parse
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any

import jsonschema
import structlog
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextContent,
    TextResourceContents,
    Tool,
    ToolAnnotations,
)

from kbsync import __version__
from kbsync.cli.commands.mcp.documents import PageRequest
from kbsync.cli.commands.mcp.library import Library, Wanted
from kbsync.cli.exit_codes import code_of, sentence_of
from kbsync.cli.options import read_moment
from kbsync.contract.searching import Query
from kbsync.core.model import Status
from kbsync.core.text import cursor, path_at, printable, printable_lines
from kbsync.engine.clock import Ask, ask_in, directly
from kbsync.engine.search import FoundDocument
from kbsync.engine.status import SHOWN
from kbsync.errors import UsageError
from kbsync.search import hit_json, shortened

log = structlog.get_logger("kbsync")

SCHEME = "kbsync://"
RESOURCES_AT_ONCE = 100
LONGEST_RESOURCE = 200_000
"""Maximum length of a document read as a resource, in characters; the tool `get` reads the rest."""

MOST_HITS = 50
LONGEST_PASSAGE = 2000
"""Maximum length of a passage in search results, in characters; `get` returns the rest."""

LONGEST_PIECE = 100_000
LONGEST_WAIT = 50
"""Maximum `wait`, in seconds; clients give up on a call after a minute."""

INSTRUCTIONS = """\
kbsync keeps the user's folders mirrored in a knowledge base, so that results match the current files. Use \
`search` to find passages, `get` to read more of a document, `list` to see which documents exist, and \
`status` if `search` misses something you expect. When you quote a document, name its path. Each response \
has `notes` on what is missing or out of date; pass on those that matter."""

ANSWER_SECONDS = LONGEST_WAIT + 30.0
"""Maximum number of seconds for any response, because a dead mount or a service may hang forever."""

Json = dict[str, Any]


def _text(about: str, longest: int = 1000) -> Json:
    return {"type": "string", "minLength": 1, "maxLength": longest, "description": about}


def _whole(about: str, least: int, most: int, usual: int) -> Json:
    return {"type": "integer", "minimum": least, "maximum": most, "default": usual, "description": about}


def _arguments(*required: str, **properties: Json) -> Json:
    known = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**known, "required": list(required)} if required else known


def _array(of: Json) -> Json:
    return {"type": "array", "items": of}


def _object(*optional: str, **properties: Json) -> Json:
    """A schema that allows `optional` properties to be missing, and other properties from later versions."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


STRING, NUMBER, WHOLE, FLAG = ({"type": name} for name in ("string", "number", "integer", "boolean"))
STRINGS = _array(STRING)
STATES = [status.word for status in SHOWN]
STATE: Json = {"type": "string", "enum": STATES}
# An excluded file is searchable until its document is deleted.
FOUND_STATE: Json = {**STATE, "enum": [status.word for status in Status]}
REASON: Json = {**STRING, "description": "Why this differs from the current file; empty if it doesn't."}
NOTES: Json = {**STRINGS, "description": "What this response may lack; empty if nothing."}
AS_OF: Json = {**STRING, "description": "The time at which this was correct; absent before the first pass."}
REASONS = _array(_object(path=STRING, reason=STRING))

MIRROR = _text("Only this mirror; `list` returns the names. Default: all.", 200)
WAIT = _whole(
    "Seconds to wait until changed files are indexed; default 0: don't wait.",
    *(0, LONGEST_WAIT, 0),
)


def _mirror(**more: Json) -> Json:
    return _object(
        *("last_pass", "halt", "as_of", "watched"),
        name=STRING,
        folder=STRING,
        target=STRING,
        documents=_object("kept", **dict.fromkeys(STATES, WHOLE)),
        oldest_pending_s=NUMBER,
        last_pass=STRING,
        halt={
            **_object(reason=STRING, detail=STRING, cure=STRING),
            "description": "Why the mirror is halted, and what the user must do; absent if it isn't halted.",
        },
        as_of=AS_OF,
        watched={**FLAG, "description": "Whether a kbsync watches the folder now; absent if unknown."},
        **more,
    )


HIT = _object(
    *("host", "title", "modified", "as_of", "state"),
    path=STRING,
    abs_path={**STRING, "description": "The file's absolute path on its machine."},
    document_id=STRING,
    score=NUMBER,
    title=STRING,
    mirror=STRING,
    host={
        **STRING,
        "description": "The machine that mirrored the document, if "
        "several machines share the knowledge base.",
    },
    here={**FLAG, "description": "Whether the file is on this machine."},
    modified=STRING,
    as_of=AS_OF,
    state={**FOUND_STATE, "description": "If not `ready`, this differs from the current file; see `reason`."},
    reason=REASON,
    passages=_array(
        _object("page", "line", text=STRING, headings=STRINGS, page=WHOLE, line=WHOLE, score=NUMBER)
    ),
)

FILE = _object(
    *("document_id", "size", "modified"),
    path=STRING,
    state=STATE,
    document_id=STRING,
    size=WHOLE,
    reason=STRING,
    modified=STRING,
)

_READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)


def _tool(name: str, title: str, about: str, arguments: Json, answer: Json) -> Tool:
    return Tool(
        name=name,
        title=title,
        description=about,
        input_schema=arguments,
        output_schema=answer,
        annotations=_READS,
    )


TOOLS = {
    tool.name: tool
    for tool in (
        _tool(
            "search",
            "Search documents",
            "Search the user's own files by words and by meaning. Use this first whenever the "
            "files may contain the answer. Returns the best documents with path, passages, page or "
            "line. If nothing matches: read `notes`, drop `path`/`type`/`after`, try other words, "
            "then `list`.",
            _arguments(
                "query",
                query=_text("Words to search for, or a question."),
                k=_whole("Maximum number of documents.", 1, MOST_HITS, 8),
                path=_text("Only paths that match this pattern in gitignore syntax: `guides/**`, `*.pdf`."),
                type={
                    **_array({"type": "string", "pattern": "^[.]?[A-Za-z0-9]{1,20}$"}),
                    "maxItems": 20,
                    "description": 'Only files with these extensions: ["pdf", "md"].',
                },
                after=_text(
                    "Only files changed on or after this date: 2026-01-31 or 2026-01-31T12:00:00Z.", 40
                ),
                mirror=MIRROR,
                wait=WAIT,
            ),
            _object(hits=_array(HIT), notes=NOTES),
        ),
        _tool(
            "get",
            "Read a document",
            "Read part of a document's text: from `offset`, or around a passage that `search` "
            "returned. Pass the `path` or the `document_id` that `search` or `list` returned. If "
            "there is a `next_offset`, the text continues there.",
            _arguments(
                path=_text("The document's path in its mirror.", 4096),
                document_id=_text("Its id, instead of the path.", 200),
                mirror=MIRROR,
                around=_text(
                    "Some words of a passage, copied exactly: return the text around them. Use "
                    "instead of `offset`.",
                    5000,
                ),
                offset=_whole("Start, in characters.", 0, 10**9, 0),
                limit=_whole("Maximum number of characters.", 1, LONGEST_PIECE, 20_000),
            ),
            _object(
                *("as_of", "next_offset"),
                mirror=STRING,
                path=STRING,
                document_id=STRING,
                state=FOUND_STATE,
                reason=REASON,
                as_of=AS_OF,
                text=STRING,
                offset=WHOLE,
                total={**WHOLE, "description": "Length of the whole text, in characters."},
                next_offset=WHOLE,
                notes=NOTES,
            ),
        ),
        _tool(
            "list",
            "List documents",
            "Browse the mirrored files. `path` is a folder, without wildcards; lists all files "
            "below it, `limit` at a time. `state: failed` lists files that could not be indexed. "
            "For the next page, pass `next` as `cursor`.",
            _arguments(
                mirror=_text("The mirror whose files to list; optional if there is only one.", 200),
                path=_text("A folder in the mirror: only files below it.", 4096),
                state={"type": "string", "enum": STATES, "description": "Only files in this state."},
                cursor=_text("The `next` of the previous page.", 8192),
                limit=_whole("Maximum number of files.", 1, 500, 100),
            ),
            _object(
                "next",
                mirrors=_array(_mirror()),
                folders=STRINGS,
                files=_array(FILE),
                next=STRING,
                notes=NOTES,
            ),
        ),
        _tool(
            "status",
            "Check freshness",
            "Whether the index is up to date. Use this if `search` misses something you expect. "
            "With `path`: why search finds that file or doesn't, and what the user must do.",
            _arguments(
                path=_text("A file or folder to explain; relative to its mirror, or absolute.", 4096),
                mirror=MIRROR,
                wait=WAIT,
            ),
            _object(
                "explanation",
                version=STRING,
                mirrors=_array(_mirror(failed=REASONS, held=REASONS)),
                explanation=_object(
                    "mirror", mirror=STRING, path=STRING, found=FLAG, answer=STRING, sentences=STRINGS
                ),
                notes=NOTES,
            ),
        ),
    )
}
"""The tools by name, in display order."""

Context = ServerRequestContext[Any, Any]


def server_of(library: Library, ask: Ask = directly) -> Server[Any]:
    """Return the server, ready for any transport. `ask` calls the library, in its own loop if needed."""
    handlers = _Handlers(library, ask)
    server: Server[Any] = Server(
        "kbsync",
        title="kbsync",
        version=__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=handlers.tools,
        on_call_tool=handlers.call,
        on_list_resources=handlers.resources,
        on_list_resource_templates=handlers.templates,
        on_read_resource=handlers.read,
    )
    # Never pass requests to a tracer, even if one is installed.
    server.middleware.clear()
    return server


class _Handlers:
    """The handlers of the protocol's requests."""

    def __init__(self, library: Library, ask: Ask) -> None:
        self._library, self._ask = library, ask
        self._answers: dict[str, Callable[[Context, Mapping[str, Any]], Awaitable[tuple[Json, str]]]] = {
            "search": self._search,
            "get": self._get,
            "list": self._list,
            "status": self._status,
        }

    # -- tools --------------------------------------------------------------------------------------------

    async def tools(self, _context: Context, _params: PaginatedRequestParams | None) -> ListToolsResult:
        """List all tools."""
        return ListToolsResult(tools=list(TOOLS.values()))

    async def call(self, context: Context, params: CallToolRequestParams) -> CallToolResult:
        """Call a tool. A failure becomes a tool error, in one sentence."""
        answer = self._answers.get(params.name)
        if answer is None:
            raise MCPError(INVALID_PARAMS, f"there is no tool {printable(params.name[:100])}")
        try:
            given = _checked(params.name, params.arguments or {})
            async with asyncio.timeout(ANSWER_SECONDS):
                told, text = await answer(context, given)
        except Exception as error:
            return CallToolResult(content=[_content(_sentence(error))], is_error=True)
        return CallToolResult(content=[_content(text)], structured_content=_as_json(told))

    async def _search(self, context: Context, given: Mapping[str, Any]) -> tuple[Json, str]:
        text = given["query"].strip()
        if not text:
            raise UsageError("`query` is blank; pass words to search for")
        after = None if "after" not in given else _moment(given["after"])
        types = tuple(given.get("type", ()))
        query = Query(text, given["k"], path=given.get("path"), types=types, after=after)
        late = await self._wait(context, given)
        try:
            reply = await self._ask(lambda: self._library.search(query, given.get("mirror")))
        except UsageError as error:
            raise UsageError(str(error).removeprefix("--")) from error
        notes = reply.note_lines(minor=True)
        if reply.unmatched.together:
            notes.append(f"no mirrored file matches {_filters_in_words(given)}")
        told = {"hits": [_hit(each) for each in reply.hits], "notes": notes + late}
        several = len(self._library.opened.installation.mirrors) > 1
        return told, "\n\n".join(_hits_in_words(told, several))

    async def _get(self, _context: Context, given: Mapping[str, Any]) -> tuple[Json, str]:
        wanted = Wanted(given.get("path"), given.get("document_id"))
        if (wanted.path is None) == (wanted.document_id is None):
            raise UsageError("pass either `path` or `document_id`")
        around, place = given.get("around"), (given["offset"], given["limit"])
        told = await self._ask(
            lambda: self._library.get(
                wanted, given.get("mirror"), around=around, offset=place[0], limit=place[1]
            )
        )
        return told, "\n\n".join(_piece_in_words(told))

    async def _list(self, _context: Context, given: Mapping[str, Any]) -> tuple[Json, str]:
        states = tuple(status for status in SHOWN if status.word == given.get("state"))
        after = None if "cursor" not in given else _path_of(given["cursor"])
        below = given.get("path", "").removeprefix("./").strip("/")
        below = "" if below == "." else below
        page = PageRequest(below, states, after, given["limit"])
        told = await self._ask(lambda: self._library.listed(page, given.get("mirror")))
        if told["next"] is not None:
            told["next"] = cursor(told["next"])
        return told, "\n".join(_list_in_words(told))

    async def _status(self, context: Context, given: Mapping[str, Any]) -> tuple[Json, str]:
        notes = await self._wait(context, given)
        told = await self._ask(lambda: self._library.status(given.get("mirror"), given.get("path")))
        told["notes"] += notes
        return told, "\n".join(_status_in_words(told))

    async def _wait(self, context: Context, given: Mapping[str, Any]) -> list[str]:
        """Wait as long as the client wants, and report progress if it asked for that. Returns notes."""

        here = asyncio.get_running_loop()

        async def report_progress(settled: int, total: int, words: str) -> None:
            await ask_in(here, lambda: context.session.report_progress(settled, total, words))

        wants_progress = context.meta is not None and "progress_token" in context.meta
        if not given["wait"] and not wants_progress:
            return []
        mirror, seconds = given.get("mirror"), given["wait"]
        return await self._ask(lambda: self._library.wait(mirror, seconds, report_progress))

    # -- resources ----------------------------------------------------------------------------------------

    async def resources(
        self, _context: Context, params: PaginatedRequestParams | None
    ) -> ListResourcesResult:
        """List a page of the searchable documents."""
        after = None if params is None else params.cursor
        try:
            mirror, _, path = ("", "", "") if after is None else _path_of(after).partition("\n")
            async with asyncio.timeout(ANSWER_SECONDS):
                found = await self._ask(lambda: self._library.documents((mirror, path), RESOURCES_AT_ONCE))
        except Exception as error:
            raise _refusal(error) from error
        listed = [
            Resource(
                uri=f"{SCHEME}{name}/{urllib.parse.quote(os.fsencode(row.path))}",
                name=printable(row.path),
                title=printable(row.path.rpartition("/")[2]),
                mime_type="text/plain",
            )
            for name, row in found
        ]
        more = cursor(f"{found[-1][0]}\n{found[-1][1].path}") if len(found) == RESOURCES_AT_ONCE else None
        return ListResourcesResult(resources=listed, next_cursor=more)

    async def templates(
        self, _context: Context, _params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        """List the only URI template of documents."""
        about = "The text of a document, given its mirror and its path in that mirror."
        template = ResourceTemplate(
            uri_template=f"{SCHEME}{{mirror}}/{{+path}}",
            name="document",
            description=about,
            mime_type="text/plain",
        )
        return ListResourceTemplatesResult(resource_templates=[template])

    async def read(self, _context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        """Read the text of a document; of a long one, the beginning and a note on how to read more."""
        uri = str(params.uri)
        mirror, _, quoted = uri.removeprefix(SCHEME).partition("/")
        try:
            if not uri.startswith(SCHEME) or not quoted or "%00" in quoted or "\0" in quoted:
                raise UsageError(f"the URI of a document is {SCHEME}MIRROR/PATH")
            wanted = Wanted(os.fsdecode(urllib.parse.unquote_to_bytes(quoted)), None)
            async with asyncio.timeout(ANSWER_SECONDS):
                told = await self._ask(
                    lambda: self._library.get(wanted, mirror, around=None, offset=0, limit=LONGEST_RESOURCE)
                )
        except Exception as error:
            raise _refusal(error) from error
        text = told["text"]
        if told["next_offset"] is not None:
            text += (
                f"\n\n[{told['total']:,} characters in total; to continue, call the tool `get` with "
                f"`offset` {told['next_offset']}]"
            )
        return ReadResourceResult(
            contents=[TextResourceContents(uri=params.uri, mime_type="text/plain", text=_encodable(text))]
        )


# -- what is asked ---------------------------------------------------------------------------------------

TEXTS = ("query", "around")
"""Arguments with free text; the others are identifiers."""

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""Characters that no document's text contains."""


@cache
def _validator(tool: str) -> Any:
    return jsonschema.Draft202012Validator(TOOLS[tool].input_schema)


def _checked(tool: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments with the schema's defaults. Raises `UsageError` if the schema refuses one."""
    wrong = jsonschema.exceptions.best_match(_validator(tool).iter_errors(given))
    if wrong is not None:
        place = "".join(f"`{each}`: " for each in wrong.absolute_path)
        raise UsageError(f"{place}{_too_long(wrong) or _shortened(wrong.message)}")
    given = {name: _NO_TEXT.sub(" ", value) if name in TEXTS else value for name, value in given.items()}
    for name, value in given.items():
        if isinstance(value, str) and "\0" in value:
            raise UsageError(f"`{name}`: a name can't contain a NUL character")
    properties: Mapping[str, Any] = TOOLS[tool].input_schema["properties"]
    usual = {name: schema["default"] for name, schema in properties.items() if "default" in schema}
    # An integer may arrive as 3.0, which the schema accepts.
    whole = {name: int(value) for name, value in given.items() if isinstance(value, float)}
    return {**usual, **given, **whole}


def _too_long(wrong: jsonschema.ValidationError) -> str:
    """For a value over a limit, return its length and the limit; '' for any other mistake."""
    what = {"maxLength": "characters", "maxItems": "items"}.get(str(wrong.validator), "")
    return f"{len(wrong.instance):,} {what}; at most {wrong.validator_value:,} are allowed" if what else ""


def _filters_in_words(given: Mapping[str, Any]) -> str:
    """Return the filters of a search in words."""
    values = {name: given[name] for name in ("path", "type", "after") if name in given}
    words = (
        f"`{name}` {', '.join(value) if isinstance(value, list) else value}" for name, value in values.items()
    )
    return printable(" and ".join(words))


def _shortened(message: str) -> str:
    """Shorten the validator's message, which quotes a value of any length."""
    said = printable(message)
    return said if len(said) <= 200 else f"{said[:60]} … {said[-120:]}"


def _moment(text: str) -> float:
    try:
        return read_moment(text)
    except ValueError as error:
        raise UsageError(f"`after`: {error}") from error


def _path_of(given: str) -> str:
    try:
        return path_at(given)
    except ValueError as error:
        raise UsageError("`cursor` must be the `next` of the previous page, unchanged") from error


# -- what is answered ------------------------------------------------------------------------------------


def _sentence(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no response within {ANSWER_SECONDS:.0f} s: a folder or a service hangs; try again later"
    if code_of(error) is None:
        log.exception("answer.failed")
        return "this is a bug in kbsync; its log on stderr has the details"
    return sentence_of(error)


def _refusal(error: Exception) -> MCPError:
    known = code_of(error) is not None
    return MCPError(INVALID_PARAMS if known else INTERNAL_ERROR, _encodable(_sentence(error)))


def _content(text: str) -> TextContent:
    return TextContent(type="text", text=printable_lines(text))


def _as_json(value: Any) -> Any:
    """Drop None values: some clients know no type that allows null."""
    match value:
        case str():
            return _encodable(value)
        case dict():
            return {_encodable(key): _as_json(each) for key, each in value.items() if each is not None}
        case list() | tuple():
            return [_as_json(each) for each in value]
    return value


def _encodable(text: str) -> str:
    """Make the value encodable as UTF-8, because a file's name may not be valid Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return printable(text)
    return text


def _noted(told: Json) -> Iterator[str]:
    if told["notes"]:
        yield "Note: " + "\nNote: ".join(told["notes"])


def _hit(hit: FoundDocument) -> Json:
    """The hit without the copy of its best passage, because a model pays for each word."""
    whole = hit_json(shortened(hit, LONGEST_PASSAGE))
    return {name: value for name, value in whole.items() if name not in ("text", "headings", "page")}


def _hits_in_words(told: Json, several: bool) -> Iterator[str]:
    yield from _noted(told)
    if not told["hits"]:
        yield "No results."
    for number, hit in enumerate(told["hits"], 1):
        whose = f"{hit['mirror']} on {hit['host']}: " if hit["host"] and not hit["here"] else ""
        whose = whose or (f"{hit['mirror']}: " if several else "")
        when = f"as of {hit['as_of']}" if hit["as_of"] else ""
        facts = [f"id {hit['document_id']}", *filter(None, [when, hit["reason"]])]
        head = f"{number}. {whose}{printable(hit['path'])} ({', '.join(facts)})"
        yield "\n".join([head, *map(partial(_passage_in_words, hit), hit["passages"])])


def _passage_in_words(hit: Json, passage: Json) -> str:
    place = f"page {passage['page']}" if passage["page"] is not None else ""
    if not place and passage["line"] is not None:
        place = f"line {passage['line']}"
    trail = " › ".join(passage["headings"]) or hit["title"] or ""
    head = ", ".join(filter(None, [printable(trail), place]))
    return f"[{head}]\n{passage['text']}" if head else passage["text"]


def _piece_in_words(told: Json) -> Iterator[str]:
    yield from _noted(told)
    if told["reason"]:
        yield f"{told['state']}: {told['reason']}"
    end = told["offset"] + len(told["text"])
    more = "" if told["next_offset"] is None else f"; continues at offset {told['next_offset']}"
    yield (f"{printable(told['path'])}, characters {told['offset']:,} to {end:,} of {told['total']:,}{more}")
    yield told["text"]


def _mirror_in_words(one: Json) -> str:
    counts = ", ".join(f"{number:,} {state}" for state, number in one["documents"].items() if number)
    when = f"as of {one['as_of']}" if one["as_of"] else "no pass has finished yet"
    return f"{one['name']}: {printable(one['folder'])}: {counts or 'no files'}; {when}"


def _list_in_words(told: Json) -> Iterator[str]:
    yield from _noted(told)
    yield from map(_mirror_in_words, told["mirrors"])
    yield from (f"{printable(folder)}/" for folder in told["folders"])
    for one in told["files"]:
        reason = f": {one['reason']}" if one["reason"] else ""
        state = "" if one["state"] == Status.READY.word else f" ({one['state']}{reason})"
        yield f"{printable(one['path'])}{state}"
    if told["next"] is not None:
        yield f"More files: cursor {told['next']}"


def _status_in_words(told: Json) -> Iterator[str]:
    yield from _noted(told)
    yield from map(_mirror_in_words, told["mirrors"])
    for one in told["mirrors"]:
        yield from (f"{printable(each['path'])}: {each['reason']}" for each in [*one["failed"], *one["held"]])
    if (why := told["explanation"]) is not None:
        yield f"{printable(why['path'])}: {why['answer']}"
        yield from why["sentences"]
