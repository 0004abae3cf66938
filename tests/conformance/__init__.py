"""What every target promises, tested by one suite: a class per target runs all of it."""

import pytest

pytest.register_assert_rewrite(
    "tests.conformance.suite",
    "tests.conformance.extras",
    "tests.conformance.served",
    "tests.conformance.variants",
    "tests.conformance.world",
)
