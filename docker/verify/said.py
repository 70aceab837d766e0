"""What a running deployment said, read from standard input and put in a line; exit code 1 if it is not as it should be.

usage: said.py health|answer|rules|logs (docker inspect, POST /classify, Prometheus' /api/v1/rules, docker logs)

Standard library only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime


def health(text: str) -> bool:
    """How long the container took to become healthy."""
    state = json.loads(text)[0]["State"]
    first = next(entry for entry in state["Health"]["Log"] if entry["ExitCode"] == 0)
    began, healthy = (datetime.fromisoformat(moment[:26] + "+00:00") for moment in (state["StartedAt"], first["End"]))
    print(f"healthy {(healthy - began).total_seconds():.1f} s after its start")
    return True


def answer(text: str) -> bool:
    """What a classification found, and at what price."""
    found = json.loads(text)
    top, left, cost = found["predictions"][0], found["exit"], found["compute"]
    print(
        f"classified inside the container: {top['label']} {top['score']:.2f}, left at step {left['step']} of "
        f"{left['steps']}, {cost['gflops']:.4f} of {cost['gflops_full']:.4f} GFLOPs"
    )
    return True


def rules(text: str) -> bool:
    """Whether every rule could be evaluated."""
    all_rules = [rule for group in json.loads(text)["data"]["groups"] for rule in group["rules"]]
    sick = [rule["name"] for rule in all_rules if rule["health"] != "ok"]
    firing = [rule["name"] for rule in all_rules if rule.get("state") == "firing"]
    print(f"rules: {len(all_rules)} evaluated, sick: {sick or 'none'}, firing: {firing or 'none'}")
    return not sick


def logs(text: str) -> bool:
    """Whether every line is JSON and every request is told with its id and without what it carried."""
    lines = [json.loads(line) for line in text.splitlines()]
    requests = [line for line in lines if line["message"] == "request"]
    errors = [line for line in lines if line["level"] == "error"]
    print(f"logs: {len(lines)} lines of JSON, {len(requests)} requests, {len(errors)} errors")
    return bool(requests) and all(line["request_id"] for line in requests) and not errors


SAYERS: dict[str, Callable[[str], bool]] = {"health": health, "answer": answer, "rules": rules, "logs": logs}

if __name__ == "__main__":
    sys.exit(0 if SAYERS[sys.argv[1]](sys.stdin.read()) else 1)
