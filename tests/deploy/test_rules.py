"""Recording and alert rules: real names only, each alert tested and explained, and promtool's own verdict."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.names import DOCKER, RULES, rules, unknown_matchers, unknown_names

TESTS = sorted((DOCKER / "prometheus" / "tests").glob("*.yml"))
ALERTS = {rule["alert"] for rule in rules() if "alert" in rule}


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs promtool (Debian's package prometheus); `make docker-verify` insists on it")
    return found


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_ask_for_what_exists(rule: dict[str, str]) -> None:
    assert unknown_names(rule["expr"]) == set()
    assert unknown_matchers(rule["expr"]) == []


def test_every_alert_says_how_urgent_it_is_and_what_happened() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert set(rule["annotations"]) == {"summary", "description"}


def test_every_alert_is_seen_to_fire_and_to_keep_silent() -> None:
    cases = [
        (case["alertname"], bool(case["exp_alerts"]))
        for file in TESTS
        for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]
        for case in test.get("alert_rule_test", [])
    ]
    assert {name for name, fires in cases if fires} == ALERTS
    quiet = {name for name, fires in cases if not fires}
    partly = {"AdafocusQueueFilling", "AdafocusWorkersRestarting"}  # one instance or reason fires, another does not
    assert quiet | partly == ALERTS


def test_operations_say_what_each_alert_asks_for(project_root: Path) -> None:
    page = (project_root / "docs" / "operations.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^### (Adafocus\w+)$", page, flags=re.MULTILINE)) == ALERTS


def test_the_rules_are_sound(promtool: str) -> None:
    done = subprocess.run([promtool, "check", "rules", *sorted(RULES.glob("*.yml"))], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_the_alerts_fire_when_they_should(promtool: str, file: Path) -> None:
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
