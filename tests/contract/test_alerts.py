"""Each alert fires when it should and is silent when it should be: asked of Prometheus' own promtool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.bus.settings import ROOT

ALERTS = ROOT / "deploy" / "k8s" / "components" / "monitoring" / "alerts.yaml"
CASES = yaml.safe_load(Path(__file__).with_name("alerts.yaml").read_text("utf-8"))
LIMIT_S = 120


def rules() -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load(ALERTS.read_text("utf-8"))["spec"]
    return spec


def test_every_alert_has_a_case() -> None:
    there = [rule["alert"] for group in rules()["groups"] for rule in group["rules"]]
    assert [case["alert"] for case in CASES] == there


@pytest.mark.extra
def test_each_alert_fires_and_is_silent(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing; Debian has it in the package prometheus"
    severities = {rule["alert"]: rule["labels"] for group in rules()["groups"] for rule in group["rules"]}
    tests = [
        tried(case, case[which], [{**case["of"], **severities[case["alert"]]}] if which == "fires" else [])
        for case in CASES
        for which in ("fires", "silent")
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()))
    asked = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(asked))
    done = subprocess.run(
        [promtool, "test", "rules", "tests.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def tried(case: dict[str, Any], series: dict[str, str], fired: list[dict[str, str]]) -> dict[str, Any]:
    """One of promtool's tests: series, and the labels of what fires `at` minutes after they begin."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'ALERTS{{alertname="{case["alert"]}", alertstate="firing"}}',
                "eval_time": f"{case['at']}m",
                "exp_samples": [{"labels": as_series(case["alert"], labels), "value": 1} for labels in fired],
            }
        ],
    }


def as_series(alert: str, labels: dict[str, str]) -> str:
    all_of = {"alertname": alert, "alertstate": "firing", **labels}
    return "ALERTS{" + ", ".join(f'{name}="{value}"' for name, value in all_of.items()) + "}"
