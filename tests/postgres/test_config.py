"""Tests the config block of `type: postgres`: which database it selects, and what two mirrors may share."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from kbsync.contract.target import TargetContext
from kbsync.errors import Unavailable, UsageError
from kbsync.index.postgres.dsn import read_dsn
from kbsync.targets.postgres.config import database_of
from kbsync.targets.postgres.target import token_of
from tests.config.reading import read

MIRRORS = """
mirrors:
  - {{name: one, folder: /srv/one, prefix: "{one}", target: {{type: postgres, dsn: "{dsn}"}}}}
  - {{name: two, folder: /srv/two, prefix: "{two}", target: {{type: postgres, dsn: "{other}"}}}}
"""


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://db.example.org/kb",
        "postgres://ada:hush@db.example.org:5432/kb?sslmode=require",
        "host=db.example.org dbname=kb user=ada",
        "dbname = 'kb' port=5432 password='hu sh' host=db.example.org",
        "postgresql:///kb?host=db.example.org",
    ],
)
def test_equivalent_dsns_are_one_database(dsn: str) -> None:
    assert database_of(dsn) == ("db.example.org", "5432", "kb", "")


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://ada:s3#x@db1/one",
        "postgresql://ada:a?b@db1/one?sslmode=require",
        "postgresql://ada:a?host=b@db1/one",
        "postgresql://ada:top@secret@db1/one",
        "postgresql://ada:12/secret@db1/one",
        "postgresql://ada@h1:1,[::1]:5433,h3/kb",
        "postgresql://%61da@/k%40b?host=%2Ftmp&port=5433",
        "postgresql://ada@db1",
        "postgresql://",
        "postgresql:///kb?service=one&dbname=other",
        "service=one",
        r"host = 'a\'b c' dbname=k\ b port=1",
        "host=/tmp dbname='' password='#?@/'",
    ],
)
def test_dsn_is_parsed_like_libpq(dsn: str) -> None:
    parsed, ours = conninfo_to_dict(dsn), read_dsn(dsn)
    for key in ("user", "host", "port", "dbname", "service"):
        read = str(parsed.get(key) or "")
        # Several hosts with the default port have an empty one.
        assert ours.get(key, "").strip(",") == read.strip(","), key


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("postgresql://kb:s3#x@db1/one", "postgresql://kb:s3#x@db2/two"),
        ("postgresql://kb:s?x@db1/one", "postgresql://kb:s?x@db2/two"),
        ("service=one", "service=two"),
        ("postgresql://ada@db1", "postgresql://bob@db1"),
    ],
)
def test_two_databases_are_two_bases(tmp_path: Path, first: str, second: str) -> None:
    assert database_of(first) != database_of(second)
    assert read(tmp_path, MIRRORS.format(dsn=first, other=second, one="", two=""))


def test_mirrors_share_a_database_under_prefixes_that_do_not_overlap(tmp_path: Path) -> None:
    dsn, other = "postgresql://db/kb", "host=db dbname=kb user=ada"
    assert read(tmp_path, MIRRORS.format(dsn=dsn, other=other, one="a/", two="b/"))
    assert read(tmp_path, MIRRORS.format(dsn=dsn, other="host=db dbname=kb2", one="", two=""))
    with pytest.raises(UsageError, match="clash in one knowledge base"):
        read(tmp_path, MIRRORS.format(dsn=dsn, other=other, one="a/", two=""))


def test_password_is_not_shown(tmp_path: Path) -> None:
    config = read(
        tmp_path, MIRRORS.format(dsn="postgresql://ada:hush@db/kb", other="dbname=x", one="", two="")
    )
    assert "hush" not in repr(config)


@pytest.mark.parametrize("name", ["kb", "kb/notes"])
def test_file_in_place_of_the_folder_of_the_token_is_named(tmp_path: Path, name: str) -> None:
    obstacle = tmp_path / name
    obstacle.parent.mkdir(exist_ok=True)
    obstacle.touch()
    with pytest.raises(Unavailable) as refused:
        token_of(TargetContext("notes", tmp_path, tmp_path))
    assert f"({obstacle} is not a directory; rename it with: mv " in refused.value.reason
