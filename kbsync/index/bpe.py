"""Tokenizes questions exactly as the `tokenizers` library tokenizes documents.

Loading the library and its vocabulary takes longer than a search. A question is short, so byte-pair encoding
in Python is fast enough; tests compare its tokens with the library's.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise

LONGEST = 300
"""Maximum length of a text in characters; for longer ones the library is faster."""

_SPACE = "\u2581"  # a space in the vocabulary
_PIECE = re.compile(f"{_SPACE}*[^{_SPACE}]*")  # no token has a space behind another character

Rank = tuple[bool, int, int, int]


class Vocabulary:
    """A SentencePiece vocabulary in the JSON format of `tokenizers`; characters that it lacks become
    bytes."""

    def __init__(self, content: bytes) -> None:
        """Read the vocabulary from `content`, the JSON file. Raises ValueError."""
        start = content.index(b"{", content.index(b'"vocab"'))
        end = content.rindex(b"}", start, content.index(b'"merges"', start)) + 1
        self._ids: dict[str, int] = json.loads(content[start:end])

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text without special tokens."""
        normalized = _SPACE + text.replace(" ", _SPACE) if text else ""
        return [number for piece in _PIECE.findall(normalized) for number in self._encode_piece(piece)]

    def rank(self, left: str, right: str) -> Rank | None:
        """Return the rank at which the two become one token, the lowest first; None if they never do. The
        order is that of the file's list of merges: by the number of the resulting token, with runs of spaces
        last.
        """
        both = self._ids.get(left + right)
        if both is None:
            return None
        return not (left + right).strip(_SPACE), both, self._ids[left], self._ids[right]

    def _encode_piece(self, piece: str) -> list[int]:
        """Repeatedly join the pair with the lowest rank; of equal ones, the first."""
        parts = [part for character in piece for part in self._parts(character)]
        ranks = [self.rank(*pair) for pair in pairwise(parts)]
        while known := [rank for rank in ranks if rank is not None]:
            at = ranks.index(min(known))
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
            del ranks[at]
            if at > 0:
                ranks[at - 1] = self.rank(parts[at - 1], parts[at])
            if at < len(ranks):
                ranks[at] = self.rank(parts[at], parts[at + 1])
        return [self._ids[part] for part in parts]

    def _parts(self, character: str) -> list[str]:
        if character in self._ids:
            return [character]
        return [f"<0x{byte:02X}>" for byte in character.encode()]
