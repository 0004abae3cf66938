"""Tests `kbsync plan`: the preview of a pass, as JSON and as a diff."""

from __future__ import annotations

import apsw
import pytest

from tests.cli.cures import proves
from tests.cli.sandbox import Sandbox
from tests.cli.zhipu import ZhipuSandbox
from tests.share import long


@pytest.fixture
def changed(sandbox: Sandbox) -> Sandbox:
    """A mirror in whose folder every kind of change has happened."""
    sandbox.mirror(
        {f"{name}.md": f"this is {name}\n" * 40 for name in ("same", "edited", "moved", "gone", "dropped")}
    )
    sandbox.write("edited.md", "now it is another text")
    (sandbox.docs / "moved.md").rename(sandbox.docs / "new place.md")
    (sandbox.docs / "gone.md").unlink()
    sandbox.write_all({"new.md": "a new file", ".kbsyncignore": "dropped.md\n"})
    return sandbox


@long
def test_plan_json_has_the_promised_shape(changed: Sandbox) -> None:
    result = changed.run("plan", "--json").check_success()
    assert result.json == {
        "mirrors": [
            {
                "name": "handbook",
                "upload": ["new.md"],
                "replace": ["edited.md"],
                "rename": [["moved.md", "new place.md"]],
                "delete": ["dropped.md", "gone.md"],
                "reembed": [],
                "held": [],
                "unchanged": 1,
            }
        ]
    }


@long
def test_plan_reads_as_a_diff_with_totals_last(changed: Sandbox) -> None:
    lines = changed.run("plan").out.splitlines()
    signs = [line.split("  (")[0] for line in lines if line[:2] in ("+ ", "~ ", "> ", "- ", "! ")]
    assert signs == ["+ new.md", "~ edited.md", "> moved.md → new place.md", "- gone.md", "- dropped.md"]
    assert lines[lines.index("no longer selected:") + 1].startswith("- dropped.md  (640 B)")
    assert lines[-1].startswith("handbook: 1 new, 1 changed, 1 renamed, 2 deleted; 1 document unchanged; ")
    assert "\x1b" not in "".join(lines)
    assert "\x1b[32m+\x1b[0m new.md" in changed.run("plan", tty=True).out


def test_plan_explains_why_an_upgrade_reindexes_documents(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    with apsw.Connection(str(sandbox.state / "state.db")) as state:
        state.execute("UPDATE upload SET recipe = 'of an older version'")
    lines = sandbox.run("plan").out.splitlines()
    assert lines[0] == "reindexed, because the settings or the version of kbsync changed:"
    assert lines[1] == "~ a.md  (5 B)"


@long
@proves("plan --all")
def test_plan_is_short_unless_all_is_requested(changed: Sandbox) -> None:
    for number in range(12):
        changed.write(f"{number}.pdf", "no pdf")
    lines = changed.run("plan").out.splitlines()
    assert "+ … and 3 more; to list all: kbsync plan --all" in lines
    lines = changed.run("plan", "--all").out.splitlines()
    assert len([line for line in lines if line.startswith("+ ")]) == 13
    assert "more" not in " ".join(lines)
    lines = changed.run("plan", "--limit", "0").out.splitlines()
    assert "- … and 1 more; to list all: kbsync plan --all" in lines
    assert len(changed.run("plan", "--limit", "0", "--json").json["mirrors"][0]["delete"]) == 2


def test_dry_run_equals_plan(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"})
    result = sandbox.run("--once", "--dry-run", "--json").check_success()
    assert result.json["mirrors"][0]["upload"] == ["a.md"]
    assert not sandbox.state.exists()


def test_plan_warns_when_not_everything_fits(zhipu: ZhipuSandbox) -> None:
    zhipu.write("a.md", "a" * 3000)
    zhipu.service.turn(capacity_bytes=1000)
    result = zhipu.run("plan").check_success()
    assert "left of 1.0 kB, and 3.0 kB would be sent: a pass would stop at the first file" in result.out
    assert zhipu.service.request_count("upload") == 0
    for enough in ({"capacity_bytes": 100_000}, {"not_offered": ["capacity"], "capacity_bytes": 1000}):
        zhipu.service.turn(**enough)
        assert "would be sent:" not in zhipu.run("plan").out


@long
def test_plan_trusts_the_state_of_a_running_kbsync(zhipu: ZhipuSandbox) -> None:
    """A list of the base can have thousands of pages."""
    zhipu.write("a.md", "alpha")
    zhipu.run("--once").check_success()
    daemon = zhipu.watch(until="daemon.watching")
    lists = zhipu.service.request_count("list")
    (zhipu.state / "lock").touch()  # like `chown`
    assert "nothing to do" in zhipu.run("plan").out
    assert zhipu.service.request_count("list") == lists
    assert daemon.end() == 0


@long
def test_kept_documents_are_planned_counted_and_verified(sandbox: Sandbox) -> None:
    """Every command counts it as correct, and nothing waits for anybody."""
    sandbox.mirror(
        {f"{name}.md": f"this is {name}\n" for name in ("same", "gone", "dropped")}, "deletions: never"
    )
    (sandbox.docs / "gone.md").unlink()
    sandbox.write(".kbsyncignore", "dropped.md\n")
    out = sandbox.run("plan").out
    assert "= dropped.md" in out and "= gone.md" in out
    assert "handbook: 2 kept; 1 document unchanged\n" in out
    result = sandbox.go("--once")
    assert (result.code, "3 documents searchable, nothing changed, 2 kept" in result.out + result.err) == (
        0,
        True,
    )
    assert sandbox.status()["documents"]["kept"] == 2
    assert "KEPT" in sandbox.run("status").out
    verification = sandbox.run("verify")
    assert (
        verification.code == 0
        and "kept       gone.md  the file is gone; its document is kept" in verification.out
    )
    assert verification.out.endswith("handbook: all is well; 2 documents kept\n")
    assert sandbox.run("approve").out == "nothing is held\n"
    assert "gone.md" in sandbox.search("gone")
    assert "`deletions: never`" in sandbox.run("explain", "gone.md").out


@long
def test_plan_without_the_service_says_so_first_and_exits_4(zhipu: ZhipuSandbox) -> None:
    for number in range(5):
        zhipu.write(f"{number}.md", f"document {number}")
    zhipu.aim(url="http://127.0.0.1:1")
    result = zhipu.go("plan", hurried=True)
    assert result.code == 4
    first, *others = result.out.splitlines()
    assert first.startswith("handbook: the knowledge base could not be checked (")
    assert len([line for line in others if line.startswith("+ ")]) == 5


@long
def test_mirror_that_cannot_be_planned_is_named_after_the_plans_of_the_others(sandbox: Sandbox) -> None:
    sandbox.configure()
    for name in ("broken", "pets"):
        sandbox.add_mirror(name, {f"{name}.md": name})
    sandbox.once()
    (sandbox.state / "kb/broken/index.db").write_bytes(b"no database" * 1000)
    result = sandbox.run("plan")
    nothing = "nothing to do; {} unchanged"
    assert (
        result.out == f"handbook: {nothing.format('0 documents')}\n\npets: {nothing.format('1 document')}\n"
    )
    assert (result.code, "kbsync: broken: " in result.err, "index.db is damaged" in result.err) == (
        4,
        True,
        True,
    )
    mirrors = {mirror["name"]: mirror for mirror in sandbox.run("plan", "--json").json["mirrors"]}
    assert list(mirrors) == ["handbook", "broken", "pets"]
    assert ["error" in mirror for mirror in mirrors.values()] == [False, True, False]
    sandbox.run("plan", "--mirror", "broken", "--json").check_refusal(4, "index.db is damaged")
