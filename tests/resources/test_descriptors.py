"""Too few file descriptors: a sentence, nothing lost, and the next pass with enough of them goes on."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.cli.vendor import Desk, desk_in, digests_in


@pytest.fixture
def desk(tmp_path: Path):  # type: ignore[no-untyped-def]
    with desk_in(tmp_path) as desk:
        yield desk


def allow(descriptors: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))


@pytest.mark.parametrize("descriptors", [12, 17])
def test_a_pass_with_too_few_descriptors_sends_nothing_twice_and_the_next_goes_on(
    desk: Desk, descriptors: int
) -> None:
    for n in range(20):
        desk.write(f"f{n}.md", f"text {n}")
    process = desk.begin("--once", preexec_fn=lambda: allow(descriptors))
    _, err = process.communicate(timeout=100)
    assert process.returncode in (1, 3, 4), err
    assert b"open files" in err and b"Traceback" not in err, err
    assert desk.once()["mirrors"][0]["documents"]["ready"] == 20
    assert desk.vendor.digests() == digests_in(desk.docs)
    assert desk.vendor.asked("upload") == 20
