"""Describes what is wrong with a message of a client, by JSON-RPC 2.0 and MCP."""

from __future__ import annotations

import pydantic_core
from mcp_types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError


def response_to_invalid(text: str) -> JSONRPCError | None:
    """Return the error response to a message, with the id of the request if it has one, or None if the
    message is valid or blank.
    """
    try:
        message = jsonrpc_message_adapter.validate_json(text, by_name=False)
    except ValidationError as error:
        return _response_to(error)
    # The mcp package takes a request for a notification if its id is neither a string nor an integer. The
    # names of real notifications have a prefix; some clients send those with an id of null.
    if not isinstance(message, JSONRPCNotification) or message.method.startswith("notifications/"):
        return None
    if "id" not in pydantic_core.from_json(text):
        return None
    return _invalid_request("id: Input should be a string or an integer")


def _response_to(error: ValidationError) -> JSONRPCError | None:
    fault = error.errors()[0]
    _, *location = fault["loc"] or [""]
    if fault["type"] == "json_invalid":
        if not str(fault["input"]).strip():
            return None
        data = ErrorData(code=PARSE_ERROR, message=f"Parse error: {fault['msg']}")
        return JSONRPCError(jsonrpc="2.0", id=None, error=data)
    if not location:
        return _invalid_request("a message must be one JSON object")
    # Of a message with a missing field, pydantic returns the whole message.
    messages = [item["input"] for item in error.errors() if item["type"] == "missing"]
    ids = [message.get("id") for message in messages if "method" in message]
    request_id = next((value for value in ids if type(value) in (int, str)), None)
    return _invalid_request(f"{location[0]}: {fault['msg']}", request_id)


def _invalid_request(why: str, request_id: str | int | None = None) -> JSONRPCError:
    data = ErrorData(code=INVALID_REQUEST, message=f"Invalid Request: {why}")
    return JSONRPCError(jsonrpc="2.0", id=request_id, error=data)
