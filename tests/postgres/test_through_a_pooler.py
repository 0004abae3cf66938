"""Repeats tests of the server through a real PgBouncer in transaction mode."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance import test_postgres
from tests.postgres.pooler import Pooled
from tests.postgres.test_failures import (  # noqa: F401 # they are collected here, for the server below
    test_connection_ended_at_any_statement_leaves_one_complete_version,
    test_dropped_base_is_recreated_only_by_a_check,
    test_lost_connection_is_detected_before_use,
    test_only_a_lost_commit_is_unsure,
    test_sleeping_writer_blocks_nobody_and_stores_nothing_on_waking,
)
from tests.postgres.test_store import (  # noqa: F401
    test_concurrently_started_hosts_create_one_base,
    test_nothing_is_left_in_a_pooled_session,
    test_search_sees_one_version_during_a_replacement,
)
from tests.postgres.test_vector_index import (  # noqa: F401
    few_are_many,
    test_interrupted_index_build_is_repeated,
    test_vector_index_is_built_after_the_fill_and_serves_all_owners,
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
