"""Sample texts in the encodings of old files, by language, from `languages.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path

_LANGUAGES = tomllib.loads(Path(__file__).with_name("languages.toml").read_text("utf-8"))

SAMPLES = [
    (f"{language}-{encoding}-{size}", encoding, text)
    for language, row in _LANGUAGES["languages"].items()
    for encoding in row["encodings"]
    for size, text in (
        ("short", row["words"]),
        ("long", row["sentences"]),
        ("file", f"{row['sentences']}\n{row['words']}\n" * 40),
    )
]
SENTENCES: list[tuple[str, str]] = [(encoding, text) for encoding, text in _LANGUAGES["sentences"]]
SIGNS: list[str] = _LANGUAGES["signs"]
ACCENTED: list[str] = _LANGUAGES["accented"].split()
NAMES: dict[str, tuple[str, str]] = {
    encoding: tuple(halves) for encoding, halves in _LANGUAGES["names"].items()
}
SCRIPTS: dict[str, list[str]] = {
    script: [*texts, texts[-1] * 5] for script, texts in _LANGUAGES["scripts"].items()
}
"""By script; the last text is the previous one repeated five times."""
