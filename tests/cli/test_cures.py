"""Every cure that is printed is pasted in the state that prints it, and is the right thing there.

`tests.cli.cure_cases` names, for each place in the source that makes a cure, the test that brings its state
about and pastes it. A cure that is new fails until it has a case.
"""

from __future__ import annotations

import ast
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kbsync_standin.zhipu import HOME_ID
from tests.cli.cure_cases import CASES, WORDS
from tests.cli.cures import cures
from tests.cli.pasting import paste
from tests.cli.place import Place
from tests.cli.vendor import ZhipuPlace

ROOT = Path(__file__).parents[2]


def elsewhere(place: Place) -> list[str]:
    """The config is in no usual place, and so is the state: a cure has to lead back there."""
    config = place.root / "an odd place" / "kb.yaml"
    config.parent.mkdir()
    place.config.rename(config)
    return ["--config", str(config), "--state-dir", str(place.root / "odd state")]


# -- halts, where no kbsync is at work -------------------------------------------------------------------

Act = Callable[[ZhipuPlace], object]


def away(zhipu: ZhipuPlace) -> object:
    return zhipu.docs.rename(zhipu.root / "away")


def back(zhipu: ZhipuPlace) -> object:
    return (zhipu.root / "away").rename(zhipu.docs)


def to_unknown_base(zhipu: ZhipuPlace) -> object:
    config = zhipu.root / "an odd place" / "kb.yaml"
    return config.write_text(config.read_text().replace(HOME_ID, "1999999999999999999"))


def to_own_base(zhipu: ZhipuPlace) -> object:
    config = zhipu.root / "an odd place" / "kb.yaml"
    return config.write_text(config.read_text().replace("1999999999999999999", HOME_ID))


def down(zhipu: ZhipuPlace) -> object:
    return zhipu.vendor.play("status", op="*", times=0, effect=False, args={"status": 503})


HALTS: dict[str, tuple[Act, Act]] = {
    "folder-missing": (away, back),
    "credentials": (
        lambda zhipu: zhipu.vendor.turn(key_revoked=True),
        lambda zhipu: zhipu.vendor.turn(key_revoked=False),
    ),
    "quota": (
        lambda zhipu: zhipu.vendor.turn(money_gone=True),
        lambda zhipu: zhipu.vendor.turn(money_gone=False),
    ),
    "knowledge-base-missing": (to_unknown_base, to_own_base),
}


@pytest.mark.parametrize("reason", HALTS)
def test_once_the_cause_of_a_halt_is_gone_its_cure_goes_on_where_no_kbsync_runs(
    zhipu: ZhipuPlace, reason: str
) -> None:
    cause, end = HALTS[reason]
    zhipu.write("a.md", "alpha")
    flags = elsewhere(zhipu)
    assert zhipu.run("--once", *flags).code == 0
    cause(zhipu)
    if reason != "folder-missing":
        zhipu.write("b.md", "beta")
    halted = zhipu.run("--once", *flags)
    assert halted.code == 3
    [told] = [json.loads(line) for line in halted.err.splitlines() if '"mirror.halted"' in line]
    printed = {
        "log": told["cure"],
        "status": zhipu.run("status", "--json", *flags).json["mirrors"][0]["halt"]["cure"],
        "terminal": zhipu.run("--once", *flags, tty=True).err.splitlines()[-1].rpartition("cure: ")[2],
    }
    if reason == "folder-missing":
        printed["plan"] = zhipu.run("plan", "--json", *flags).json["mirrors"][0]["halt"]["cure"]
        printed["verify"] = zhipu.run("verify", "--json", *flags).json["mirrors"][0]["halt"]["cure"]
        explained = zhipu.run("explain", str(zhipu.docs / "a.md"), *flags).out
        printed["explain"] = explained.partition("run `")[2].partition("`")[0]
    assert set(printed.values()) == {told["cure"]}, printed
    assert paste(zhipu, told["cure"]).code == 3  # as long as nobody did what the halt says, it is a halt
    end(zhipu)
    cured = paste(zhipu, told["cure"])
    assert cured.code == 0, cured.err
    [mirror] = zhipu.run("status", "--json", *flags).json["mirrors"]
    assert (mirror["halt"], mirror["documents"]["pending"]) == (None, 0)


def test_beside_a_running_kbsync_the_cure_of_the_same_halt_is_another(zhipu: ZhipuPlace) -> None:
    """A halt that a pass wrote down is cured by a daemon that came later, and the other way round."""
    zhipu.write("a.md", "alpha")
    assert zhipu.run("--once").code == 0
    away(zhipu)
    assert zhipu.run("--once").code == 3
    daemon = zhipu.watch(hurried=True)
    daemon.says("mirror.halted", reason="folder-missing")
    [mirror] = zhipu.run("status", "--json").json["mirrors"]
    assert mirror["halt"]["cure"] == "kbsync retry --mirror handbook"
    back(zhipu)
    assert "does it now" in paste(zhipu, mirror["halt"]["cure"]).out
    daemon.says("mirror.resumed")
    away(zhipu)
    daemon.says("mirror.halted", times=2, reason="folder-missing")
    assert daemon.end() == 0
    back(zhipu)
    [mirror] = zhipu.run("status", "--json").json["mirrors"]
    assert mirror["halt"]["cure"] == "kbsync --once --mirror handbook"
    assert paste(zhipu, mirror["halt"]["cure"]).code == 0
    assert zhipu.run("status", "--json").json["mirrors"][0]["halt"] is None


# -- what commands say -----------------------------------------------------------------------------------


def test_what_to_do_about_a_document_that_failed(place: Place) -> None:
    place.write("a b.pdf", "this is no pdf")
    place.configure()
    flags = elsewhere(place)
    ran = place.run("--once", *flags, tty=True)
    _, _, advice = ran.err.strip().splitlines()[-1].partition("to see why one of them failed: ")
    explain, _, retry = advice.partition("; to retry all of them: ")
    in_json = json.loads(place.run("--once", *flags).err.splitlines()[-1])
    assert (in_json["explain"], in_json["cure"]) == (explain, retry)
    told = paste(place, explain, PATH=f"'{place.docs}/a b.pdf'")
    assert told.code == 0
    assert "cannot be read" in told.out
    own = told.out.partition("run `")[2].partition("`")[0]
    assert " retry " in own
    for cure in (own, retry):
        asked = paste(place, cure)
        assert asked.code == 0
        assert "1 document" in asked.out or "a b.pdf" in asked.out
        again = asked.out.strip().rpartition(": ")[2]
        assert paste(place, again).code == 1  # the file is what it was, and was tried again
    place.write("a b.pdf", "")
    assert paste(place, again).code == 0


def test_a_pass_that_was_interrupted_is_gone_on_with(place: Place) -> None:
    place.write("a.md", "alpha")
    config = place.configure("settle_longest: 60s")
    config.write_text(config.read_text().replace("settle: 100ms", "settle: 50s"))
    process = place.start("--once", "--state-dir", place.root / "odd state")
    time.sleep(1.0)  # until signals are heard; however far it is then
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    [told] = [json.loads(line) for line in err.splitlines() if b"pass.interrupted" in line]
    place.configure()
    gone_on = paste(place, told["cure"])
    assert (gone_on.code, "1 uploaded" in gone_on.out) == (0, True)


def test_what_was_mirrored_is_searched(place: Place) -> None:
    place.write("a.md", "alpha")
    place.configure()
    ran = place.run("--once", *elsewhere(place), tty=True)
    [search] = [line for line in ran.out.splitlines() if "search it: " in line]
    command = re.sub(r"\x1b\[\d*m", "", search).partition("search it: ")[2]
    assert "a.md" in paste(place, command, QUERY="alpha").out


def test_without_a_config_one_is_begun(place: Place) -> None:
    ran = place.run("status")
    command = ran.err.strip().rpartition("with: ")[2]
    assert paste(place, command, DIR=str(place.docs)).code == 0
    assert place.run("--once").code == 0


def test_bases_that_lack_are_listed_and_made(zhipu: ZhipuPlace) -> None:
    flags = elsewhere(zhipu)
    to_unknown_base(zhipu)
    shown = zhipu.run("kb", "show", *flags)
    assert HOME_ID in paste(zhipu, shown.err.strip().rpartition("list them with ")[2]).out
    zhipu.vendor.play("status", op="create-base", effect=False, args={"status": 503})
    unsure = zhipu.run("kb", "create", "guides", *flags)
    advice = re.search(r"look with (kbsync kb list .*) before another try", unsure.err)
    assert advice is not None
    assert HOME_ID in paste(zhipu, advice[1]).out
    zhipu.vendor.server.faults.clear()
    assert zhipu.run("kb", "delete", HOME_ID, "--yes", "handbook", *flags).code == 0
    none = zhipu.run("kb", "list", *flags)
    create = none.err.strip().rpartition("create one with: ")[2]
    assert paste(zhipu, create, NAME="guides").code == 0


def test_applications_that_lack_are_made_and_asked(zhipu: ZhipuPlace) -> None:
    flags = elsewhere(zhipu)
    for one in zhipu.run("kb", "app", "list", "--json", *flags).json["applications"]:
        assert zhipu.run("kb", "app", "delete", one["id"], "--yes", one["name"], *flags).code == 0
    none = zhipu.run("kb", "app", "list", *flags)
    made = paste(zhipu, none.err.strip().rpartition("create one with: ")[2], NAME="helpdesk")
    assert made.code == 0, made.err
    answer = paste(zhipu, made.err.strip().rpartition("ask it with: ")[2], QUESTION="'how do I'")
    assert answer.code == 0, answer.err


# -- all of them -----------------------------------------------------------------------------------------


def test_every_cure_that_can_be_printed_has_a_case() -> None:
    assert cures() == {*CASES, *WORDS}
    assert len(CASES) + len(WORDS) == len(cures())


PASTES = {"paste", "is_cured", "pasted"}
"""What pastes, or what a fixture has that did (`tests.cli.troubles.Evidence.pasted`)."""


def test_every_case_is_there_and_pastes() -> None:
    for case in {*CASES.values(), *WORDS.values()}:
        file, _, name = case.partition("::")
        tree = ast.parse((ROOT / file).read_bytes())
        tests = {
            one.name: one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in tests, case
        words = {getattr(one, "id", getattr(one, "attr", "")) for one in ast.walk(tests[name])}
        assert case not in CASES.values() or words & PASTES, f"{case} pastes nothing"
