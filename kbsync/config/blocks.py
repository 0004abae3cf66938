"""Marks for settings that are not a single value: lists, blocks, and a block that is one of several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kbsync.config.kinds import Refused, value_shown

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema


class About:
    """Describes a key whose value is a list or a block; `empty` says why an empty list is refused."""

    def __init__(self, about: str, *, empty: str = "") -> None:
        self.about = about
        self.empty = empty

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        schema = handler(source)
        if not self.empty:
            return schema
        return core_schema.no_info_after_validator_function(self._refuse_empty, schema)

    def _refuse_empty(self, value: object) -> object:
        if value == ():
            raise Refused(self.empty)
        return value

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        least = {"minItems": 1} if self.empty else {}
        return {**handler(schema), "description": self.about, **least}


class OneOf:
    """A block whose key `type` says which of `choices` it is; `default` where the key is absent."""

    def __init__(self, about: str, what: str, default: str, choices: Mapping[str, type]) -> None:
        self.about = about
        self.what = what
        self.default = default
        self.choices = choices

    def chosen(self, value: object) -> type | None:
        """The class that the block `value` is to be read as; None where there is none."""
        return self.choices.get(self._tag(value) or "")

    def _tag(self, value: object) -> str | None:
        if not isinstance(value, dict):
            return None
        tag = value.get("type", self.default)
        return tag if isinstance(tag, str) else value_shown(tag)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.tagged_union_schema(
            choices={tag: handler.generate_schema(choice) for tag, choice in self.choices.items()},
            discriminator=self._tag,
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "description": self.about}


class NotAKey:
    """A field of the model that cannot be set in a file."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        def refuse(value: object) -> object:
            raise Refused("unknown key")

        return core_schema.no_info_plain_validator_function(refuse)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"not": {}}
