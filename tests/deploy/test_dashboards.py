"""The dashboards: as their source makes them, every panel explained, every query about something that exists."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.names import DOCKER, unknown_matchers, unknown_names

GRAFANA = DOCKER / "grafana"
BOARDS = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in (GRAFANA / "dashboards").glob("*.json")}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]


def test_the_files_are_what_their_source_makes() -> None:
    program = "import build, json; print(json.dumps({name: build.text(b) for name, b in build.DASHBOARDS.items()}))"
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], cwd=GRAFANA, capture_output=True, text=True, check=True
    )
    made = json.loads(done.stdout)
    files = {path.name: path.read_text(encoding="utf-8") for path in (GRAFANA / "dashboards").iterdir()}
    assert files == made, "run: python docker/grafana/build.py"


def test_there_are_the_three() -> None:
    assert {board["title"] for board in BOARDS.values()} == {
        "adafocus · Per-request compute",
        "adafocus · Service",
        "adafocus · GPU",
    }
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_a_unit_a_description_and_queries_that_exist(panel: dict[str, Any]) -> None:
    assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"] and panel["targets"]
    for target in panel["targets"]:
        assert unknown_names(target["expr"]) == set()
        assert unknown_matchers(target["expr"]) == []


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_panels_neither_overlap_nor_share_an_id(board: dict[str, Any]) -> None:
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    places = [panel["gridPos"] for panel in board["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]


def test_the_data_source_is_the_provisioned_one() -> None:
    text = (GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text(encoding="utf-8")
    source = yaml.safe_load(text)["datasources"][0]
    wanted = {"type": source["type"], "uid": source["uid"]}
    for board in BOARDS.values():
        for panel in board["panels"]:
            if panel["type"] != "row":
                assert panel["datasource"] == wanted
                assert all(target["datasource"] == wanted for target in panel["targets"])


def test_grafana_reads_the_folder_that_compose_mounts(project_root: Path) -> None:
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "adafocus.yml").read_text(encoding="utf-8"))
    folder = provider["providers"][0]["options"]["path"]
    grafana = yaml.safe_load((project_root / "docker-compose.yml").read_text(encoding="utf-8"))["services"]["grafana"]
    assert f"./docker/grafana/dashboards:{folder}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.startswith(folder) and Path(home).name in BOARDS


def test_the_shortest_rate_spans_four_scrapes() -> None:
    prometheus = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    text = (GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text(encoding="utf-8")
    source = yaml.safe_load(text)["datasources"][0]
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
