"""The syntax of gitignore: one line becomes one regular expression for a path.

Written out here because the usual libraries judge a path together with everything above it and trip
over names with a newline in them. Here a line is asked about one entry only; that an excluded folder
takes along what is below it is for the caller, who does not enter it. Differs from git in two places:
`?` and `[…]` stand for one character, not for one byte, and a line that could never match
(an unclosed bracket, a lone backslash at its end) is an error, since its author meant something by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_ONE_NAME = "[^/]"
_ANY_FOLDERS = "(?:[^/]+/)*"
_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "\\x21-\\x7e",
    "lower": "a-z",
    "print": "\\x20-\\x7e",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \\t\\n\\r\\f\\v",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}


@dataclass(frozen=True, slots=True)
class PatternLine:
    """One line of gitignore syntax. `rule` names where it stands, such as `docs/.kbsyncignore:3`."""

    text: str
    rule: str
    is_negated: bool
    folders_only: bool
    by_name: bool
    segments: tuple[str, ...]
    expression: re.Pattern[str]
    above: re.Pattern[str]

    def matches(self, path: str, is_folder: bool) -> bool:
        """Whether it speaks of the entry `path` itself, relative to where the line applies."""
        if self.folders_only and not is_folder:
            return False
        subject = path.rpartition("/")[2] if self.by_name else path
        return self.expression.fullmatch(subject) is not None

    def reaches_below(self, folder: str) -> bool:
        """Whether some path below `folder` could match."""
        return self.by_name or self.above.fullmatch(folder) is not None


def parse(text: str, rule: str) -> PatternLine | None:
    """The line `text` (without line end); None for a blank line or a comment.

    Raises ValueError with `rule`, the line and what is wrong with it.
    """
    shown = _without_trailing_spaces(text)
    if not shown or shown.startswith("#"):
        return None
    try:
        return _line(shown, rule)
    except ValueError as error:
        raise ValueError(f"{rule}: {error} in {shown!r}") from None


def parse_file(content: str, path: str) -> tuple[PatternLine, ...]:
    """The lines of the ignore file at `path`, in order. Raises ValueError that names the line."""
    texts = content.removeprefix("\ufeff").split("\n")
    numbered = ((text.removesuffix("\r"), f"{path}:{n}") for n, text in enumerate(texts, 1))
    return tuple(line for text, rule in numbered if (line := parse(text, rule)))


def parse_list(items: Sequence[str], key: str) -> tuple[PatternLine, ...]:
    """The items of the config's list `key`. Raises ValueError that names the item, as in `exclude[0]`."""
    numbered = ((text, f"{key}[{index}]") for index, text in enumerate(items))
    return tuple(line for text, rule in numbered if (line := parse(text, rule)))


def decide(lines: Iterable[PatternLine], path: str, is_folder: bool) -> PatternLine | None:
    """The line that has the last word on the entry `path`, or None; `lines` come last one first."""
    return next((line for line in lines if line.matches(path, is_folder)), None)


def decide_upwards(lines: Sequence[PatternLine], path: str, is_folder: bool) -> PatternLine | None:
    """The line that has the last word on `path`, or else on the nearest folder above it that any speaks of.

    Makes a list of patterns one of wanted files: `docs/` means all in it, `!docs/draft.md` but this.
    """
    while path:
        if line := decide(lines, path, is_folder):
            return line
        path, is_folder = path.rpartition("/")[0], True
    return None


def _line(shown: str, rule: str) -> PatternLine:
    pattern = shown.removeprefix("!")
    body = pattern.removesuffix("/")
    name = body.removeprefix("**/")
    by_name = "/" not in name
    segments = (name,) if by_name else _segments(body)
    return PatternLine(
        text=shown,
        rule=rule,
        is_negated=pattern != shown,
        folders_only=body != pattern,
        by_name=by_name,
        segments=segments,
        expression=re.compile(_name(name) if by_name else _path(segments)),
        above=re.compile(_above(segments), re.DOTALL),
    )


def _segments(pattern: str) -> tuple[str, ...]:
    """`/a/**/b` as ("a", "**", "b"); more than two stars are two."""
    parts = pattern.removeprefix("/").split("/")
    return tuple("**" if len(part) > 1 and not part.strip("*") else part for part in parts)


def _without_trailing_spaces(text: str) -> str:
    """A space at the end counts only after a backslash."""
    stripped = text.rstrip(" ")
    backslashes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + " " if backslashes % 2 and len(stripped) < len(text) else stripped


def _path(segments: Sequence[str]) -> str:
    """The expression for a whole path.

    What stands between two `**` is matched at the first place where it fits (an atomic group): that is
    enough for a correct answer, and a hostile line cannot make it slow.
    """
    first, *others = _chunks(segments)
    if not others:
        return "/".join(map(_name, first))
    *middle, last = others
    inner = (f"(?>(?:[^/]+/)*?{_folders(chunk)})" for chunk in middle if chunk)
    end = _ANY_FOLDERS + "/".join(map(_name, last)) if last else _ANY_FOLDERS + "[^/]+"
    return _folders(first) + "".join(inner) + end


def _chunks(segments: Sequence[str]) -> list[list[str]]:
    """The segments, cut at each `**`."""
    chunks: list[list[str]] = [[]]
    for segment in segments:
        if segment == "**":
            chunks.append([])
        else:
            chunks[-1].append(segment)
    return chunks


def _folders(chunk: Sequence[str]) -> str:
    return "".join(_name(segment) + "/" for segment in chunk)


def _above(segments: Sequence[str]) -> str:
    """The expression for every folder below which a path could match."""
    is_open = "**" in segments
    fixed = segments[: segments.index("**")] if is_open else segments[:-1]
    names = list(map(_name, fixed))
    folders = ["/".join(names[:length]) for length in range(1, len(names) + 1)]
    return "|".join([*folders, _folders(fixed) + ".*"] if is_open else folders) or "(?!)"


def _name(segment: str) -> str:
    """The expression for one name: `*`, `?`, `[…]`, backslash, and letters that mean themselves."""
    pieces = [""]
    for element in _elements(segment):
        if element == "*":
            pieces.append("")
        else:
            pieces[-1] += element
    first, *others = pieces
    if not others:
        return first
    *middle, last = others
    inner = (f"(?>{_ONE_NAME}*?{piece})" for piece in middle if piece)
    return first + "".join(inner) + f"{_ONE_NAME}*" + last


def _elements(segment: str) -> Iterator[str]:
    """Each element of a name as an expression for exactly one character; `*` stands for itself."""
    at = 0
    while at < len(segment):
        match segment[at]:
            case "*":
                yield "*"
            case "?":
                yield _ONE_NAME
            case "[":
                expression, at = _bracket(segment, at + 1)
                yield expression
                continue
            case "\\":
                at += 1
                yield re.escape(_character(segment, at, "a backslash with nothing after it"))
            case letter:
                yield re.escape(letter)
        at += 1


def _character(segment: str, at: int, problem: str = "a bracket that is not closed") -> str:
    if at >= len(segment):
        raise ValueError(problem)
    return segment[at]


def _bracket(segment: str, at: int) -> tuple[str, int]:
    """The expression for `[…]` whose inside starts at `at`, and the place after its end."""
    is_negated = _character(segment, at) in "!^"
    start = at = at + is_negated
    members = ""
    while (letter := _character(segment, at)) != "]" or at == start:
        if letter == "[" and (found := re.compile(r"\[:([^]]*):\]").match(segment, at)):
            members += _class(found[1])
            at = found.end()
        else:
            member, at = _member(segment, at)
            members += member
    if is_negated:
        return f"[^/{members}]", at + 1
    return (f"(?!/)[{members}]" if members else "(?!)"), at + 1


def _class(name: str) -> str:
    if name not in _CLASSES:
        raise ValueError(f"an unknown class [:{name}:]")
    return _CLASSES[name]


def _member(segment: str, at: int) -> tuple[str, int]:
    """One letter or one range inside a bracket, and the place after it."""
    low, at = _letter(segment, at)
    if segment[at : at + 1] != "-" or _character(segment, at + 1) == "]":
        return re.escape(low), at
    high, at = _letter(segment, at + 1)
    return (f"{re.escape(low)}-{re.escape(high)}" if low <= high else ""), at


def _letter(segment: str, at: int) -> tuple[str, int]:
    if _character(segment, at) == "\\":
        at += 1
    return _character(segment, at), at + 1
