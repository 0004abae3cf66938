"""Tests that files have the same names in every locale, and that people can type in its encoding."""

from __future__ import annotations

import json
import locale
import os
import subprocess
import sys

import pytest

from kbsync.cli.options import as_typed
from tests.cli.sandbox import Sandbox
from tests.share import long

# With these, Python uses the encoding of the C locale, ASCII. Locales with other encodings may be missing.
NOT_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run(sandbox: Sandbox, *words: str, is_utf8: bool = False) -> bytes:
    """Run kbsync as a process that starts in the locale, and return its stdout."""
    # -S: in such a locale, Python can't read the path of an editable installation if it isn't in ASCII.
    command = [sys.executable, "-S", "-m", "kbsync", *words]
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment = sandbox.environ(paths | ({} if is_utf8 else NOT_UTF8))
    pipe = subprocess.PIPE
    return subprocess.run(command, check=True, stdout=pipe, cwd=sandbox.root, env=environment).stdout


@long
def test_locale_without_utf8_changes_no_name(sandbox: Sandbox) -> None:
    sandbox.prepare({"café.md": "an aardvark", "文件.md": "a badger"})
    for is_utf8, uploaded in ((False, 2), (True, 0), (False, 0)):
        result = json.loads(run(sandbox, "--once", "--json", is_utf8=is_utf8))
        changes = [result[key] for key in ("uploaded", "replaced", "renamed", "deleted")]
        assert changes == [uploaded, 0, 0, 0]
    assert sandbox.search("aardvark") == ["café.md"]
    assert run(sandbox, "search", "--files", "badger").startswith(os.fsencode(sandbox.docs / "文件.md\n"))


@long
def test_output_keeps_the_encoding_of_the_locale(sandbox: Sandbox) -> None:
    sandbox.mirror({"café.md": "an aardvark"})
    assert run(sandbox, "search", "aardvark").startswith(rb"caf\xe9.md")


@pytest.mark.parametrize("encoding", ["gb18030", "iso8859-1", "utf-8"])
def test_query_is_read_in_the_encoding_of_the_locale(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    monkeypatch.setattr(locale, "getencoding", lambda: encoding)
    words = {"gb18030": "你好", "iso8859-1": "café", "utf-8": "你好 café"}[encoding]
    argument = words.encode(encoding).decode("utf-8", "surrogateescape")
    assert as_typed(None, None, (argument,)) == (words,)
    assert as_typed(None, None, ("文件",)) == ("文件",)  # a C locale is ASCII, but terminals send UTF-8
