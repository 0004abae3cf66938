"""Repeats tests of the server through a real PgBouncer in transaction mode."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance import test_postgres
from tests.postgres.pooler import Pooled
from tests.postgres.test_failures import (  # noqa: F401 # they are collected here, for the server below
    impatient,
    test_a_base_that_was_dropped_is_made_anew_by_a_look_and_by_nothing_else,
    test_a_lost_connection_is_noticed_before_it_is_used,
    test_a_writer_asleep_in_its_transaction_holds_nobody_up_and_stores_nothing_when_it_wakes,
    test_ended_at_any_statement_the_old_version_or_the_new_one_is_whole,
    test_only_a_lost_commit_is_unsure,
)
from tests.postgres.test_store import (  # noqa: F401
    test_hosts_that_come_at_once_make_one_base,
    test_nothing_is_left_in_a_session_that_a_pooler_gives_to_others,
    test_the_old_version_answers_until_the_commit,
)
from tests.postgres.test_vector_index import (  # noqa: F401
    few_are_many,
    test_an_index_that_was_broken_off_is_made_again,
    test_the_index_is_made_when_the_fill_is_over_and_serves_all_owners,
)
from tests.programs import needs
from tests.share import long

pytestmark = [needs("pgbouncer"), long]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Pooled]:
    pooled = Pooled()
    yield pooled
    pooled.close()


class TestThroughAPooler(test_postgres.TestPostgres):
    pass
