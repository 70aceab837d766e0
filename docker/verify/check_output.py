"""Checks the output of a running deployment, read from standard input, and prints one line. Exit code 1 on failure.

usage: check_output.py health|answer|rules|logs (docker inspect, POST /classify, Prometheus' /api/v1/rules, docker logs)

Standard library only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime


def health(text: str) -> bool:
    """Print how long the container took to become healthy."""
    state = json.loads(text)[0]["State"]
    first = next(entry for entry in state["Health"]["Log"] if entry["ExitCode"] == 0)
    began, healthy = (datetime.fromisoformat(moment[:26] + "+00:00") for moment in (state["StartedAt"], first["End"]))
    print(f"healthy {(healthy - began).total_seconds():.1f} s after its start")
    return True


def answer(text: str) -> bool:
    """Print the result and the cost of a classification."""
    found = json.loads(text)
    top, exited, cost = found["predictions"][0], found["exit"], found["compute"]
    print(
        f"classified inside the container: {top['label']} {top['score']:.2f}, exit at step {exited['step']} of "
        f"{exited['steps']}, {cost['gflops']:.4f} of {cost['gflops_full']:.4f} GFLOPs"
    )
    return True


def rules(text: str) -> bool:
    """Check that every rule could be evaluated."""
    all_rules = [rule for group in json.loads(text)["data"]["groups"] for rule in group["rules"]]
    failed = [rule["name"] for rule in all_rules if rule["health"] != "ok"]
    firing = [rule["name"] for rule in all_rules if rule.get("state") == "firing"]
    print(f"rules: {len(all_rules)} evaluated, failed: {failed or 'none'}, firing: {firing or 'none'}")
    return not failed


def logs(text: str) -> bool:
    """Check that every line is JSON, that every request is logged with its id, and that there are no errors."""
    lines = [json.loads(line) for line in text.splitlines()]
    requests = [line for line in lines if line["message"] == "request"]
    errors = [line for line in lines if line["level"] == "error"]
    print(f"logs: {len(lines)} lines of JSON, {len(requests)} requests, {len(errors)} errors")
    return bool(requests) and all(line["request_id"] for line in requests) and not errors


CHECKS: dict[str, Callable[[str], bool]] = {"health": health, "answer": answer, "rules": rules, "logs": logs}

if __name__ == "__main__":
    sys.exit(0 if CHECKS[sys.argv[1]](sys.stdin.read()) else 1)
