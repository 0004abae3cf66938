"""The promises of every target, tested by one suite; each target runs it in its own class."""

import pytest

pytest.register_assert_rewrite(
    "tests.conformance.suite",
    "tests.conformance.extras",
    "tests.conformance.served",
    "tests.conformance.variants",
    "tests.conformance.world",
)
