"""Reads YAML text as plain values, each with its line number.

As in editors, plain scalars are read as in YAML 1.2 (`on`, `no` and dates are strings). Anchors, aliases and
merges (`<<`) work, but documents that would grow too large are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import field

import yaml

from kbsync.config.problems import Loc, shorten
from kbsync.dataclass import dataclass

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]

# Count each use of an alias: a few lines can expand to billions of values.
_MAX_VALUES = 20_000
_MAX_DEPTH = 30
_TAG = "tag:yaml.org,2002:"


@dataclass(slots=True)
class Tree:
    """A parsed document.

    `value`: the document itself. `refused`: the unusable values. `notes`: other problems, by line.
    """

    value: Value = None
    lines: dict[Loc, int] = field(default_factory=dict)
    refused: list[tuple[Loc, str]] = field(default_factory=list)
    notes: list[tuple[Loc, int, str]] = field(default_factory=list)


class UnreadableConfig(ValueError):
    """Raised if the text isn't usable YAML. `line` starts at 1; it is None if the whole file is affected."""

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.line = line


# Only numbers, booleans and null of YAML 1.2: `on` and dates are strings, as in editors.
class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (as the base)


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)


def read_yaml(text: str) -> Tree:
    """Parse `text` and return its tree.

    Raises `UnreadableConfig` if the text isn't YAML. Other problems are recorded in the tree.
    """
    try:
        root: yaml.Node | None = yaml.compose(text, _Loader)
    except RecursionError:
        raise UnreadableConfig(None, "is nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # for escapes beyond Unicode
        raise _sentence(error, text) from None
    builder = _TreeBuilder()
    # The document of a lone `---` is an empty scalar.
    is_empty = isinstance(root, yaml.ScalarNode) and root.value == "" and root.style is None
    if root is not None and not is_empty:
        builder.tree.value = builder.build(root, ())
    return builder.tree


def _sentence(error: Exception, text: str) -> UnreadableConfig:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        return UnreadableConfig(
            line, f"contains the character U+{code:04X}, which YAML doesn't allow; remove it"
        )
    if isinstance(error, yaml.MarkedYAMLError):
        opening, end = error.context_mark, error.problem_mark
        if opening is not None and end is not None and "while parsing a flow" in (error.context or ""):
            # A pattern without quotes may keep the bracket around it from closing.
            for match in _UNQUOTED_PATTERN.finditer(text, opening.index, end.index):
                if match[0][0] in "!#":
                    return UnreadableConfig(text.count("\n", 0, match.start()) + 1, _UNQUOTED)
        mark = error.problem_mark or error.context_mark
        if opening is not None and error.context in _FOUND_LATE:
            mark = opening
        return UnreadableConfig(mark.line + 1 if mark else None, _cause(error, text, mark))
    return UnreadableConfig(None, "contains an escape (\\x, \\u or \\U) that is not a character")


_FOUND_LATE = ("while scanning a simple key", "while scanning a quoted scalar")
"""Errors that PyYAML notices only further down, often at the end of the file."""


_CAUSES = (
    (r"could not find expected ':'", "a `: ` with its space is missing after a key, or a quote isn't closed"),
    (
        r"mapping values are not allowed",
        "`: ` is not allowed here; is a `: ` with its space missing in the line above, or quotes around "
        "the text?",
    ),
    (r"unknown escape|expected escape", "`\\` is special in double quotes; use single quotes"),
    (r"expected a single document", "contains a second document (`---`); keep only one"),
    (
        r"undefined alias|while scanning an? (alias|anchor)",
        '`*` and `&` are special in YAML; put quotes around a pattern, such as "*.md"',
    ),
    (r"^end of stream|unexpected (end of stream|document separator)", "a quote is not closed"),
    (r"expected <block end>", "the line does not match those around it; check the indentation and quotes"),
    (r"expected ',' or|while parsing a flow", "a `]`, a `}` or a comma is missing"),
    (
        r"undefined tag|while scanning a (tag|directive)|undefined.*handle",
        "`!` and `%` are special in YAML; put quotes around the text",
    ),
    (r"cannot start any token", "text can't begin with this character; put quotes around the text"),
)


_UNQUOTED = 'not valid YAML: `!` and `#` are special in YAML; put quotes around a pattern, such as "!keep.md"'
_UNQUOTED_PATTERN = re.compile(r""""(?:\\.|[^"\\])*"|'[^']*'|(?<=[\s,\[{])(?:!\S*|#\S[^\n]*)[]}]""")
"""Matches a quoted text, or an unquoted pattern that begins with `!` or `#`, together with the bracket after
it. YAML parses such a pattern as a tag or a comment that includes the bracket.
"""


_VARIABLE = re.compile(r"\$\{\w{0,60}\}?", re.ASCII)
"""Matches a variable inside brackets, where YAML would parse its `{` as the start of a nested mapping."""


def _cause(error: yaml.MarkedYAMLError, text: str, mark: yaml.Mark | None) -> str:
    if mark is not None and text[mark.index : mark.index + 1] == "\t":
        return "there is a tab here; indent YAML with spaces only"
    if mark is not None and (variable := _VARIABLE.match(text, max(0, mark.index - 1))):
        return f'not valid YAML: inside {{ }} and [ ] a variable needs quotes; put "{variable[0]}" in quotes'
    words = f"{error.problem or ''} {error.context or ''}".strip()
    for pattern, sentence in _CAUSES:
        if re.search(pattern, words):
            return f"not valid YAML: {sentence}"
    return f"not valid YAML: {shorten(words)}"


class _TreeBuilder:
    """Builds the tree, counting its values so that aliases of aliases can't make it grow without bound."""

    def __init__(self) -> None:
        self.tree = Tree()
        self._count = 0

    def build(self, node: yaml.Node, loc: Loc) -> Value:
        """Return the value of `node`, which is at `loc`."""
        self._count += 1
        line = node.start_mark.line + 1
        self.tree.lines.setdefault(loc, line)
        if self._count > _MAX_VALUES:
            raise UnreadableConfig(
                line,
                f"contains too many values for a config (maximum: {_MAX_VALUES}, including aliases)",
            )
        if len(loc) > _MAX_DEPTH:
            raise UnreadableConfig(
                line, "is nested too deeply, or has an alias (`*`) inside its own anchor (`&`)"
            )
        reason = _why_unusable(node)
        if reason is not None:
            self.tree.refused.append((loc, reason))
            return None
        match node:
            case yaml.MappingNode():
                return self._mapping(node, loc)
            case yaml.SequenceNode():
                return [self.build(item, (*loc, index)) for index, item in enumerate(node.value)]
            case _:
                return _scalar_value(node)

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> Value:
        value: dict[str, Value] = {}
        merged: list[tuple[yaml.ScalarNode, yaml.Node]] = []
        for key, child in self._named(node, loc):
            if key.value == "<<" and key.style is None:
                self.tree.lines[(*loc, "<<")] = key.start_mark.line + 1
                merged.extend(self._merged(child, loc))
            elif key.value in value:  # YAML forbids this, but PyYAML silently uses the last value
                key_loc = (*loc, key.value)
                message = f"is set twice, first on line {self.tree.lines[key_loc]}; keep only one of them"
                self.tree.notes.append((key_loc, key.start_mark.line + 1, message))
            else:
                value[key.value] = self._entry(key, child, loc)
        for key, child in merged:  # last, because the block's own key wins over a merged one
            if key.value not in value:
                value[key.value] = self._entry(key, child, loc)
        return value

    def _entry(self, key: yaml.Node, child: yaml.Node, loc: Loc) -> Value:
        self.tree.lines[(*loc, key.value)] = key.start_mark.line + 1
        return self.build(child, (*loc, key.value))

    def _named(self, node: yaml.MappingNode, loc: Loc) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """Yield the entries whose keys are plain words."""
        for key, child in node.value:
            if isinstance(key, yaml.ScalarNode) and _is_text(key.value):
                yield key, child
            else:
                self.tree.notes.append(
                    (loc, key.start_mark.line + 1, "contains a key that is not a plain word")
                )

    def _merged(
        self, child: yaml.Node, loc: Loc, depth: int = 0
    ) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """Yield the entries that `<<: child` merges in. Those that take precedence come first."""
        self._count += 1
        if depth > _MAX_DEPTH or self._count > _MAX_VALUES:
            raise UnreadableConfig(child.start_mark.line + 1, "`<<` merges too much")
        if isinstance(child, yaml.SequenceNode):
            for item in child.value:
                yield from self._merged(item, loc, depth + 1)
        elif isinstance(child, yaml.MappingNode):
            for key, value in self._named(child, loc):
                if key.value == "<<" and key.style is None:
                    yield from self._merged(value, loc, depth + 1)
                else:
                    yield key, value
        else:
            self.tree.refused.append(((*loc, "<<"), "can merge only blocks of keys, such as `<<: *shared`"))


_KNOWN_TAGS = frozenset(_TAG + name for name in ("null", "bool", "int", "float", "str", "map", "seq"))


def _why_unusable(node: yaml.Node) -> str | None:
    if node.tag not in _KNOWN_TAGS:
        return f"has the unknown tag {shorten(node.tag)!r}; put quotes around the text"
    if not isinstance(node, yaml.ScalarNode):
        return None
    if node.tag == _TAG + "null":
        hint = ", or put `~` in quotes if you mean your home directory" if node.value == "~" else ""
        return f"has no value; write one or remove the key{hint}"
    if not _is_text(node.value):
        return "contains a character that text cannot contain (NUL or half of a surrogate pair)"
    try:
        _scalar_value(node)
    except ValueError:
        return f"{shorten(node.value)!r} is not a valid {node.tag.removeprefix(_TAG)}"
    return None


def _is_text(text: str) -> bool:
    # SQLite ends a string at NUL, and half of a surrogate pair cannot be encoded.
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _scalar_value(node: yaml.Node) -> Value:
    match node.tag.removeprefix(_TAG):
        case "bool":
            if node.value.lower() not in ("true", "false"):  # an explicit !!bool
                raise ValueError(node.value)
            return bool(node.value.lower() == "true")
        case "int":
            base = {"0o": 8, "0x": 16}.get(node.value[:2], 10)
            return int(node.value[2:] if base != 10 else node.value, base)
        case "float":
            return float(node.value.replace(".inf", "inf").replace(".nan", "nan").lower())
        case _:
            return str(node.value)
