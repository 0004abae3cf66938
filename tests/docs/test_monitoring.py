"""Tests that the alert rules, the Grafana dashboard and their page only use metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from kbsync.server.metrics import rendered
from tests.docs.pages import ROOT
from tests.programs import needs
from tests.server.test_metrics import figures
from tests.share import enumerated, long

RULES = ROOT / "monitoring" / "alerts.yml"
DASHBOARD = ROOT / "monitoring" / "grafana.json"
PAGE = ROOT / "docs" / "monitoring.md"

_NAME = re.compile(r"\bkbsync_[a-z_]+\b")


SAMPLES = {
    sample.name: set(sample.labels)
    for family in text_string_to_metric_families(rendered(figures()).decode())
    for sample in family.samples
}
"""Every sample, and its labels."""


def alerts() -> list[dict[str, object]]:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [str(alert["expr"]) for alert in alerts()] + [t["expr"] for p in panels for t in p["targets"]]


@pytest.mark.parametrize("expression", expressions())
def test_every_expression_uses_existing_metrics_and_labels(expression: str) -> None:
    named = set(_NAME.findall(expression)) - {"kbsync"}
    assert named <= SAMPLES.keys()
    # `up` is Prometheus' own.
    assert named or "up{" in expression
    for name, chosen in re.findall(r"(kbsync_[a-z_]+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)\s*[=!]", chosen)) <= SAMPLES[name]
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)


def test_page_lists_exactly_the_alerts_and_metrics() -> None:
    page = PAGE.read_text()
    assert re.findall(r"^\| `(Kbsync\w+)`", page, re.MULTILINE) == [rule["alert"] for rule in alerts()]
    rows = re.findall(r"^\| `(kbsync_\w+)(?:\{([^}]*)\})?`", page, re.MULTILINE)
    assert {name: {*given.split(",")} - {""} for name, given in rows} == {
        name.removesuffix("_bucket"): labels - {"le"}
        for name, labels in SAMPLES.items()
        if not name.endswith(("_sum", "_count"))
    }


@needs("promtool")
def test_prometheus_accepts_the_rules(tmp_path: Path) -> None:
    subprocess.run(["promtool", "check", "rules", str(RULES)], check=True, cwd=tmp_path)


WAITS = {
    "severity": "warning",
    "summary": "A file of docs has been waiting for 50m 0s",
    "description": "kbsync status --documents says what it is waiting for.",
}
NEVER = {
    "severity": "warning",
    "state": "ready",
    "summary": "kbsync has not yet compared the whole folder of docs since it started",
    "description": "A very large folder takes a long time; kbsync status --watch shows the progress.",
}
WAITING = {"oldest_pending_seconds": "3000x40"}
READY = {"documents state=ready": "0x200"}


@long
@enumerated()
@needs("promtool")
@pytest.mark.parametrize(
    ("alert", "after", "series", "reported"),
    [
        ("KbsyncWaitingLong", "30m", WAITING | {"halted reason=deletions-held": "1x40"}, WAITS),
        ("KbsyncWaitingLong", "30m", WAITING | {"halted reason=credentials": "1x40"}, {}),
        ("KbsyncWaitingLong", "30m", WAITING | {"paused": "1x40"}, {}),
        ("KbsyncNeverPassed", "3h", READY, NEVER),
        ("KbsyncNeverPassed", "3h", READY | {"paused": "1x200"}, {}),
        ("KbsyncNeverPassed", "3h", READY | {"last_pass_timestamp_seconds": "_x60 3600x140"}, {}),
    ],
    ids=["behind a hold", "behind a halt", "in a pause", "never passed", "paused", "passed"],
)
def test_alert_texts_for_given_series(
    tmp_path: Path, alert: str, after: str, series: dict[str, str], reported: dict[str, str]
) -> None:
    """Uploads continue while deletions are held: a stuck upload is a separate problem."""
    named = {"instance": "a", "mirror": "docs"}
    given = []
    for name, values in series.items():
        metric, _, label = name.partition(" ")
        labels = named | (dict([label.split("=")]) if label else {})
        chosen = ", ".join(f'{key}="{value}"' for key, value in labels.items())
        given.append({"series": f"kbsync_{metric}{{{chosen}}}", "values": values})
    words = {key: reported[key] for key in ("summary", "description") if reported}
    labels = named | {key: value for key, value in reported.items() if key not in words}
    expected = [{"exp_labels": labels, "exp_annotations": words}] if reported else []
    rule = {"eval_time": after, "alertname": alert, "exp_alerts": expected}
    tests = [{"interval": "1m", "input_series": given, "alert_rule_test": [rule]}]
    (tmp_path / "rules.yml").write_bytes(RULES.read_bytes())
    (tmp_path / "case.yml").write_text(json.dumps({"rule_files": ["rules.yml"], "tests": tests}))
    subprocess.run(["promtool", "test", "rules", "case.yml"], check=True, cwd=tmp_path)
