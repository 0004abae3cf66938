"""Serves the library to an assistant: four tools, and documents as resources.

Arguments are checked against the tool's schema. Failures become tool errors that a model can act on. Each
response has two forms: JSON that follows a schema, and text.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import urllib.parse
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import jsonschema
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
from kbsync.cli.commands.mcp.library import STATUS_HINT, Library
from kbsync.cli.exit_codes import code_of, sentence_of
from kbsync.config.kinds import read_since
from kbsync.config.problems import shorten
from kbsync.contract.searching import Query
from kbsync.core.model import Status
from kbsync.core.text import cursor, path_at, printable, printable_lines
from kbsync.engine.clock import RunQuery, log_bug, run_directly, run_in_loop
from kbsync.engine.status import SHOWN
from kbsync.errors import UsageError
from kbsync.search import filters_in_words, hit_json, shortened

SCHEME = "kbsync://"
RESOURCES_PER_PAGE = 100
MAX_RESOURCE_LENGTH = 200_000
"""Maximum length of a document read as a resource, in characters; the tool `get` reads the rest."""

MAX_HITS = 50
MAX_PASSAGE_LENGTH = 2000
"""Maximum length of a passage in search results, in characters; `get` returns the rest."""

MAX_PIECE_LENGTH = 100_000
MAX_WAIT = 50
"""Maximum `wait`, in seconds; clients give up on a call after a minute."""

INSTRUCTIONS = """\
kbsync keeps the user's folders mirrored in a knowledge base, so that results match the current files. Use \
`search` to find passages, `get` to read more of a document, `list` to see which documents exist, and \
`status` if `search` misses something you expect. When you quote a document, name its path. Each response \
has `notes` on what is missing or out of date; pass on those that matter."""

RESPONSE_SECONDS = MAX_WAIT + 30.0
"""Time limit for any response, in seconds, because a dead mount or an unresponsive service may hang
forever."""

Json = dict[str, Any]


def _text(about: str, longest: int = 1000) -> Json:
    return {"type": "string", "minLength": 1, "maxLength": longest, "description": about}


def _whole(about: str, least: int, highest: int, usual: int) -> Json:
    return {"type": "integer", "minimum": least, "maximum": highest, "default": usual, "description": about}


def _arguments(*required: str, **properties: Json) -> Json:
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": list(required)} if required else schema


def _array(items: Json) -> Json:
    return {"type": "array", "items": items}


def _object(*optional: str, **properties: Json) -> Json:
    """Return a schema with these `optional` properties. It also allows properties that later versions add."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


STRING, NUMBER, WHOLE, FLAG = ({"type": name} for name in ("string", "number", "integer", "boolean"))
STRINGS = _array(STRING)
STATES = [status.word for status in SHOWN]
STATE: Json = {"type": "string", "enum": STATES}
# An excluded file is searchable until its document is deleted.
FOUND_STATE: Json = {**STATE, "enum": [status.word for status in Status]}
REASON: Json = {**STRING, "description": "Why the document differs from the file; empty if it doesn't."}
NOTES: Json = {**STRINGS, "description": "What may be missing from this response; empty if nothing is."}
AS_OF: Json = {
    **STRING,
    "description": "When this information was last accurate; absent before the first pass.",
}
REASONS = _array(_object(path=STRING, reason=STRING))

MIRROR = _text("Use only this mirror; `list` returns the names. Default: all mirrors.", 200)
WAIT = _whole(
    "Maximum seconds to wait for changed files to be indexed; default: 0 (don't wait).", 0, MAX_WAIT, 0
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
        watched={**FLAG, "description": "Whether kbsync is watching the folder now; absent if unknown."},
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
    state={
        **FOUND_STATE,
        "description": (
            "Any state but `ready` means that the document differs from the current file; see `reason`."
        ),
    },
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


def _tool(name: str, title: str, about: str, argument_schema: Json, response_schema: Json) -> Tool:
    return Tool(
        name=name,
        title=title,
        description=about,
        input_schema=argument_schema,
        output_schema=response_schema,
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
                query=_text(
                    'Words to search for, or a question. "Quotes" find a phrase, -word excludes '
                    "documents with that word, path:GLOB and type:EXT narrow the search, and -path:GLOB and "
                    "-type:EXT exclude files."
                ),
                k=_whole("Maximum number of documents.", 1, MAX_HITS, 8),
                path=_text("Only paths that match this pattern in gitignore syntax: `guides/**`, `*.pdf`."),
                type={
                    **_array({"type": "string", "pattern": "^[.]?[A-Za-z0-9]{1,20}$"}),
                    "maxItems": 20,
                    "description": 'Only files with these extensions: ["pdf", "md"].',
                },
                after=_text(
                    "Only files changed since this time: `yesterday`, a duration such as 7d, or a date "
                    "such as 2026-01-31 or 2026-01-31T12:00:00Z.",
                    40,
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
            "there is a `next_offset`, the text continues there. The text may have blank lines and "
            "repeated table headers that the file doesn't have.",
            _arguments(
                path=_text("The document's path in its mirror.", 4096),
                document_id=_text("Its id, instead of the path.", 200),
                mirror=MIRROR,
                around=_text(
                    "A few words copied exactly from a passage: returns the text around them. Use this "
                    "instead of `offset`.",
                    5000,
                ),
                offset=_whole("Start, in characters.", 0, 10**9, 0),
                limit=_whole("Maximum number of characters.", 1, MAX_PIECE_LENGTH, 20_000),
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
            "Browse the mirrored files. Lists all files below the folder `path` (no wildcards), `limit` at "
            "a time. Use `state: failed` to list files that could not be indexed. For the next page, pass "
            "`next` as `cursor`.",
            _arguments(
                mirror=_text("The mirror whose files to list; optional if there is only one.", 200),
                path=_text("Only list files below this folder of the mirror.", 4096),
                state={"type": "string", "enum": STATES, "description": "Only files in this state."},
                cursor=_text("The value of `next` from the previous page.", 8192),
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
            "With `path`: why search does or doesn't find that file, and what the user must do.",
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


def build_server(library: Library, run_query: RunQuery = run_directly) -> Server[Any]:
    """Return the server, which works with any transport.

    `run_query` calls the library, in its own event loop if necessary.
    """
    handlers = _Handlers(library, run_query)
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
    # Never pass requests to a tracer, even an installed one.
    server.middleware.clear()
    return server


class _Handlers:
    """Handles the protocol's requests by calling the library."""

    def __init__(self, library: Library, run_query: RunQuery) -> None:
        self._library, self._run_query = library, run_query
        self._tools: dict[str, Callable[[Context, Mapping[str, Any]], Awaitable[tuple[Json, str]]]] = {
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
        """Call a tool. A failure becomes a tool error with a one-sentence message."""
        handler = self._tools.get(params.name)
        if handler is None:
            raise MCPError(INVALID_PARAMS, f"unknown tool: {printable(params.name[:100])}")
        try:
            arguments = _validate(params.name, params.arguments or {})
            async with asyncio.timeout(RESPONSE_SECONDS):
                response, text = await handler(context, arguments)
        except Exception as error:
            return CallToolResult(content=[_content(_describe_error(error))], is_error=True)
        return CallToolResult(content=[_content(text)], structured_content=_as_json(response))

    async def _search(self, context: Context, arguments: Mapping[str, Any]) -> tuple[Json, str]:
        text = arguments["query"].strip()
        if not text:
            raise UsageError("`query` is blank; pass words to search for")
        after = None if "after" not in arguments else _moment(arguments["after"])
        types = tuple(arguments.get("type", ()))
        paths = (arguments["path"],) if "path" in arguments else ()
        query = Query(text, arguments["k"], paths=paths, types=types, after=after)
        wait_notes = await self._wait(context, arguments)
        try:
            reply = await self._run_query(lambda: self._library.search(query, arguments.get("mirror")))
        except UsageError as error:
            raise UsageError(str(error).removeprefix("--")) from error
        notes = reply.note_lines(minor=True, hint=STATUS_HINT)
        for filters in filters_in_words(reply.query, reply.unmatched):
            options = " and ".join(f"`{name}` {value}" for name, value in filters)
            notes.append(f"no mirrored file matches {options}")
        hits = [hit_json(shortened(hit, MAX_PASSAGE_LENGTH)) for hit in reply.hits]
        for hit in hits:
            # Repetitions of the best passage: every word costs tokens.
            del hit["text"], hit["headings"], hit["page"]
        response = {"hits": hits, "notes": notes + wait_notes}
        several = len(self._library.open_mirrors.installation.mirrors) > 1
        return response, "\n\n".join(_format_hits(response, several))

    async def _get(self, _context: Context, arguments: Mapping[str, Any]) -> tuple[Json, str]:
        if ("path" in arguments) == ("document_id" in arguments):
            raise UsageError("pass either `path` or `document_id`")
        response = await self._run_query(lambda: self._library.get(**arguments))
        text, start, more = response["text"], response["offset"], response["next_offset"]
        span = f"{start:,} to {start + len(text):,} of {response['total']:,}"
        continues = "" if more is None else f"; continues at offset {more}"
        reason = [f"{response['state']}: {response['reason']}"] if response["reason"] else []
        head = f"{printable(response['path'])}, characters {span}{continues}"
        return response, "\n\n".join([*_format_notes(response), *reason, head, text])

    async def _list(self, _context: Context, arguments: Mapping[str, Any]) -> tuple[Json, str]:
        states = tuple(status for status in SHOWN if status.word == arguments.get("state"))
        after = None if "cursor" not in arguments else _decode_cursor(arguments["cursor"])
        below = arguments.get("path", "").removeprefix("./").strip("/")
        below = "" if below == "." else below
        page = PageRequest(below, states, after, arguments["limit"])
        response = await self._run_query(lambda: self._library.list_files(page, arguments.get("mirror")))
        if response["next"] is not None:
            response["next"] = cursor(response["next"])
        lines = [*_format_notes(response), *map(_format_mirror, response["mirrors"])]
        lines += [f"{printable(folder)}/" for folder in response["folders"]]
        for file in response["files"]:
            reason = f": {file['reason']}" if file["reason"] else ""
            state = "" if file["state"] == Status.READY.word else f" ({file['state']}{reason})"
            lines.append(f"{printable(file['path'])}{state}")
        if response["next"] is not None:
            lines.append(f"More files: pass `cursor` {response['next']}")
        return response, "\n".join(lines)

    async def _status(self, context: Context, arguments: Mapping[str, Any]) -> tuple[Json, str]:
        notes = await self._wait(context, arguments)
        response = await self._run_query(
            lambda: self._library.status(arguments.get("mirror"), arguments.get("path"))
        )
        response["notes"] += notes
        lines = list[str]()
        if (why := response["explanation"]) is not None:
            lines += [f"{printable(why['path'])}: {why['answer']}", *why["sentences"], ""]
        lines += _format_notes(response)
        for mirror in response["mirrors"]:
            lines.append(_format_mirror(mirror))
            lines += [
                f"{mirror['name']}: {state}: {printable(document['path'])}: {document['reason']}"
                for state in ("failed", "held")
                for document in mirror[state]
            ]
        return response, "\n".join(lines)

    async def _wait(self, context: Context, arguments: Mapping[str, Any]) -> list[str]:
        """Wait as long as the client requests, and report the progress if the client asked for it.

        Return notes on gaps in the response.
        """

        client_loop = asyncio.get_running_loop()

        async def report_progress(finished: int, total: int, message: str) -> None:
            await run_in_loop(client_loop, lambda: context.session.report_progress(finished, total, message))

        wants_progress = context.meta is not None and "progress_token" in context.meta
        if not arguments["wait"] and not wants_progress:
            return []
        mirror, seconds = arguments.get("mirror"), arguments["wait"]
        return await self._run_query(lambda: self._library.wait(mirror, seconds, report_progress))

    # -- resources ----------------------------------------------------------------------------------------

    async def resources(
        self, _context: Context, params: PaginatedRequestParams | None
    ) -> ListResourcesResult:
        """List a page of the searchable documents."""
        after = None if params is None else params.cursor
        try:
            mirror, _, path = ("", "", "") if after is None else _decode_cursor(after).partition("\n")
            async with asyncio.timeout(RESPONSE_SECONDS):
                files = await self._run_query(
                    lambda: self._library.documents((mirror, path), RESOURCES_PER_PAGE)
                )
        except Exception as error:
            raise _protocol_error(error) from error
        resources = [
            Resource(
                uri=f"{SCHEME}{name}/{urllib.parse.quote(os.fsencode(row.path))}",
                name=printable(row.path),
                title=printable(row.path.rpartition("/")[2]),
                mime_type="text/plain",
            )
            for name, row in files
        ]
        more = cursor(f"{files[-1][0]}\n{files[-1][1].path}") if len(files) == RESOURCES_PER_PAGE else None
        return ListResourcesResult(resources=resources, next_cursor=more)

    async def templates(
        self, _context: Context, _params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        """List the only URI template, which is for documents."""
        about = "The text of a document, given its mirror and its path in that mirror."
        template = ResourceTemplate(
            uri_template=f"{SCHEME}{{mirror}}/{{+path}}",
            name="document",
            description=about,
            mime_type="text/plain",
        )
        return ListResourceTemplatesResult(resource_templates=[template])

    async def read(self, _context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        """Read the text of a document.

        For a long text, return only the beginning, with a note on how to read more.
        """
        uri = str(params.uri)
        mirror, _, quoted = uri.removeprefix(SCHEME).partition("/")
        try:
            if not uri.startswith(SCHEME) or not quoted or "%00" in quoted or "\0" in quoted:
                raise UsageError(f"a document's URI has the form {SCHEME}MIRROR/PATH")
            path = os.fsdecode(urllib.parse.unquote_to_bytes(quoted))
            async with asyncio.timeout(RESPONSE_SECONDS):
                response = await self._run_query(
                    lambda: self._library.get(mirror=mirror, path=path, offset=0, limit=MAX_RESOURCE_LENGTH)
                )
        except Exception as error:
            raise _protocol_error(error) from error
        text = response["text"]
        if response["next_offset"] is not None:
            text += (
                f"\n\n[{response['total']:,} characters in total; to continue, call the tool `get` with "
                f"`offset` {response['next_offset']}]"
            )
        return ReadResourceResult(
            contents=[TextResourceContents(uri=params.uri, mime_type="text/plain", text=_encodable(text))]
        )


# -- requests ---------------------------------------------------------------------------------------

TEXTS = ("query", "around")
"""Arguments with free text; all others are identifiers."""

_VALIDATORS = {name: jsonschema.Draft202012Validator(tool.input_schema) for name, tool in TOOLS.items()}

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""Characters that never occur in a document's text."""


def _validate(tool: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments, with the schema's defaults filled in.

    Raises `UsageError` if one violates the schema.
    """
    properties: Mapping[str, Any] = TOOLS[tool].input_schema["properties"]
    violation = jsonschema.exceptions.best_match(_VALIDATORS[tool].iter_errors(arguments))
    if violation is not None:
        location = "".join(f"`{key}`: " for key in violation.absolute_path)
        match violation.validator:
            case "required":
                missing = [name for name in violation.validator_value if name not in violation.instance]
                raise UsageError(f"`{missing[0]}` is missing")
            case "additionalProperties":
                unknown = printable(next(name for name in violation.instance if name not in properties)[:60])
                known = ", ".join(f"`{name}`" for name in properties)
                raise UsageError(f"unknown argument `{unknown}`; allowed: {known}")
        unit = {"maxLength": "characters", "maxItems": "items"}.get(str(violation.validator))
        if unit is not None:
            limit = f"at most {violation.validator_value:,} are allowed"
            raise UsageError(f"{location}{len(violation.instance):,} {unit}; {limit}")
        value = shorten(json.dumps(violation.instance, ensure_ascii=False))
        raise UsageError(f"{location}{value} is not valid; allowed: {_describe_allowed(violation)}")
    arguments = {
        name: _NO_TEXT.sub(" ", value) if name in TEXTS else value for name, value in arguments.items()
    }
    for name, value in arguments.items():
        if isinstance(value, str) and "\0" in value:
            raise UsageError(f"`{name}`: a name can't contain a NUL character")
    defaults = {name: schema["default"] for name, schema in properties.items() if "default" in schema}
    # An integer may arrive as 3.0, which the schema accepts.
    integers = {name: int(value) for name, value in arguments.items() if isinstance(value, float)}
    return {**defaults, **arguments, **integers}


def _describe_allowed(violation: jsonschema.ValidationError) -> str:
    """Return what the schema allows instead of the invalid value."""
    match violation.validator:
        case "type":
            words = {"string": "text", "integer": "a whole number", "array": "a list"}
            return words[violation.validator_value]
        case "enum":
            return ", ".join(violation.validator_value)
        case "minimum" | "maximum":
            return f"{violation.schema['minimum']:,} to {violation.schema['maximum']:,}"
        case "pattern":
            return "up to 20 letters and digits"
    return "text that is not empty"


def _moment(text: str) -> float:
    try:
        return read_since(text)
    except ValueError as error:
        raise UsageError(f"`after`: {error}") from error


def _decode_cursor(text: str) -> str:
    try:
        return path_at(text)
    except ValueError as error:
        raise UsageError("`cursor` must be the unchanged value of `next` from the previous page") from error


# -- responses ------------------------------------------------------------------------------------


def _describe_error(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no response within {RESPONSE_SECONDS:.0f} s from a folder or a service; try again later"
    if code_of(error) is None:
        return log_bug("answer.failed", error)
    return sentence_of(error)


def _protocol_error(error: Exception) -> MCPError:
    is_expected = code_of(error) is not None
    return MCPError(INVALID_PARAMS if is_expected else INTERNAL_ERROR, _encodable(_describe_error(error)))


def _content(text: str) -> TextContent:
    return TextContent(type="text", text=printable_lines(text))


def _as_json(value: Any) -> Any:
    """Drop None values, because some clients don't support nullable types."""
    match value:
        case str():
            return _encodable(value)
        case dict():
            return {_encodable(key): _as_json(item) for key, item in value.items() if item is not None}
        case list() | tuple():
            return [_as_json(item) for item in value]
    return value


def _encodable(text: str) -> str:
    """Return the value in a form that UTF-8 can encode, because a file's name may not be valid Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return printable(text)
    return text


def _format_notes(response: Json) -> list[str]:
    return ["\n".join(f"Note: {note}" for note in response["notes"])] if response["notes"] else []


def _format_hits(response: Json, several: bool) -> Iterator[str]:
    yield from _format_notes(response)
    if not response["hits"]:
        yield "No results."
    for number, hit in enumerate(response["hits"], 1):
        whose = f"{hit['mirror']} on {hit['host']}: " if hit["host"] and not hit["here"] else ""
        whose = whose or (f"{hit['mirror']}: " if several else "")
        when = f"as of {hit['as_of']}" if hit["as_of"] else ""
        facts = [f"id {hit['document_id']}", *filter(None, [when, hit["reason"]])]
        lines = [f"{number}. {whose}{printable(hit['path'])} ({', '.join(facts)})"]
        for passage in hit["passages"]:
            location = f"page {passage['page']}" if passage["page"] is not None else ""
            if not location and passage["line"] is not None:
                location = f"line {passage['line']}"
            trail = " › ".join(passage["headings"]) or hit["title"] or ""
            head = ", ".join(filter(None, [printable(trail), location]))
            lines += [f"[{head}]", passage["text"]] if head else [passage["text"]]
        yield "\n".join(lines)


def _format_mirror(mirror: Json) -> str:
    counts = ", ".join(f"{number:,} {state}" for state, number in mirror["documents"].items() if number)
    when = f"as of {mirror['as_of']}" if mirror["as_of"] else "no pass has finished yet"
    return f"{mirror['name']}: {printable(mirror['folder'])}: {counts or 'no files'}; {when}"
