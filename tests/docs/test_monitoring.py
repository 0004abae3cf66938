"""The alert rules, the Grafana dashboard and the page about them name metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from kbsync.server.metrics import MetricFigures, rendered
from tests.docs.pages import ROOT
from tests.programs import needs
from tests.server.test_metrics import figures

RULES = ROOT / "monitoring" / "alerts.yml"
DASHBOARD = ROOT / "monitoring" / "grafana.json"
PAGE = ROOT / "docs" / "monitoring.md"

_NAME = re.compile(r"\bkbsync_[a-z_]+\b")


def samples() -> set[str]:
    """Every name of a sample."""
    lines = rendered(figures()).decode().splitlines()
    return {re.split(r"[{ ]", line)[0] for line in lines if line and not line.startswith("#")}


def labels(name: str) -> set[str]:
    """The labels of a metric."""
    found = (line for line in rendered(figures()).decode().splitlines() if line.startswith(f"{name}{{"))
    return set(re.findall(r"(\w+)=\"", next(found, "")))


def families() -> set[str]:
    lines = rendered(MetricFigures()).decode().splitlines()
    return {line.split()[2] for line in lines if line.startswith("# TYPE ")}


def alerts() -> list[dict[str, object]]:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [str(one["expr"]) for one in alerts()] + [t["expr"] for p in panels for t in p["targets"]]


@pytest.mark.parametrize("expression", expressions())
def test_every_expression_is_about_metrics_and_labels_that_exist(expression: str) -> None:
    named = set(_NAME.findall(expression)) - {"kbsync"}
    assert named <= samples()
    # `up` is Prometheus' own.
    assert named or "up{" in expression
    for name, chosen in re.findall(r"(kbsync_[a-z_]+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)\s*[=!]", chosen)) <= labels(name)
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)


def test_the_page_names_every_alert_and_every_metric_and_no_other() -> None:
    page = PAGE.read_text()
    assert re.findall(r"^\| `(Kbsync\w+)`", page, re.MULTILINE) == [rule["alert"] for rule in alerts()]
    assert set(re.findall(r"^\| `(kbsync_\w+)", page, re.MULTILINE)) == families()


def test_the_labels_on_the_page_are_those_of_the_metrics() -> None:
    told = rendered(figures()).decode()
    for name, given in re.findall(r"^\| `(kbsync_\w+)\{([^}]*)\}`", PAGE.read_text(), re.MULTILINE):
        line = next(one for one in told.splitlines() if re.match(rf"{name}(_bucket)?\{{", one))
        assert set(re.findall(r"(\w+)=\"", line)) - {"le"} == set(given.split(",")), name


@needs("promtool")
def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    subprocess.run(["promtool", "check", "rules", str(RULES)], check=True, cwd=tmp_path)


@needs("promtool")
@pytest.mark.parametrize(("reason", "alerts"), [("deletions-held", True), ("credentials", False)])
def test_what_waits_behind_a_hold_is_told_and_behind_a_halt_only_the_halt(
    tmp_path: Path, reason: str, alerts: bool
) -> None:
    """Uploads go on while deletions are held: one that is stuck then is a matter of its own."""
    told = {
        "exp_labels": {"severity": "warning", "instance": "a", "mirror": "docs"},
        "exp_annotations": {
            "summary": "A file of docs has waited for 50m 0s",
            "description": "kbsync status --documents says what it waits for.",
        },
    }
    series = {
        'kbsync_oldest_pending_seconds{instance="a", mirror="docs"}': "3000x40",
        f'kbsync_halted{{instance="a", mirror="docs", reason="{reason}"}}': "1x40",
    }
    _tried(tmp_path, "KbsyncWaitingLong", "30m", series, [told] if alerts else [])


@needs("promtool")
@pytest.mark.parametrize("passed", [False, True])
def test_a_folder_that_was_never_compared_is_told(tmp_path: Path, passed: bool) -> None:
    told = {
        "exp_labels": {"severity": "warning", "instance": "a", "mirror": "docs", "state": "ready"},
        "exp_annotations": {
            "summary": "The folder of docs was not compared as a whole once since kbsync began",
            "description": "A very large folder takes its time; kbsync status --watch shows how far it is.",
        },
    }
    series = {'kbsync_documents{instance="a", mirror="docs", state="ready"}': "0x200"}
    if passed:
        series['kbsync_last_pass_timestamp_seconds{instance="a", mirror="docs"}'] = "_x60 3600x140"
    _tried(tmp_path, "KbsyncNeverPassed", "3h", series, [] if passed else [told])


def _tried(
    place: Path, alert: str, after: str, series: dict[str, str], told: list[dict[str, object]]
) -> None:
    """What the alert says when the series went on for so long."""
    case = {
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "alert_rule_test": [{"eval_time": after, "alertname": alert, "exp_alerts": told}],
    }
    (place / "rules.yml").write_bytes(RULES.read_bytes())
    (place / "case.yml").write_text(json.dumps({"rule_files": ["rules.yml"], "tests": [case]}))
    subprocess.run(["promtool", "test", "rules", "case.yml"], check=True, cwd=place)
