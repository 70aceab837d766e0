"""The page of metrics, the catalogue and what a running service says are the same list."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from adafocus.service.telemetry.definitions import CATALOGUE, ROUTES, Metric
from tests.service.server import make_settings, serving


def generator(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_metrics", root / "docs" / "generate_metrics.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_catalogue_makes(project_root: Path) -> None:
    module = generator(project_root)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: python docs/generate_metrics.py"


def test_every_metric_has_base_units_in_its_name() -> None:
    for metric in CATALOGUE:
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        if metric.unit in ("seconds", "bytes"):
            assert f"_{metric.unit}" in metric.name, metric.name
        assert not {"ms", "milliseconds", "mb", "giga", "percent", "ratio"} & set(metric.name.split("_")), metric.name


def family_of(metric: Metric) -> str:
    return metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name


async def test_a_running_service_says_what_the_catalogue_lists(tmp_path: Path) -> None:
    async with serving(make_settings(tmp_path)) as running, running.client() as client:
        text = (await client.get("/metrics")).text
        open_text = (await client.get("/metrics", headers={"Accept": "application/openmetrics-text"})).text
    steps = running.service.models.of(None).manifest.steps
    for families in (list(parse_text(text)), list(parse_openmetrics(open_text))):
        assert {(family.name, family.type) for family in families} == {
            (family_of(metric), metric.kind) for metric in CATALOGUE
        }
        by_name = {family.name: family for family in families}
        for metric in CATALOGUE:
            family = by_name[family_of(metric)]
            if "_process_" not in metric.name:  # measured, and described, by the client library
                assert family.documentation == metric.help
            found = {
                tuple(sample.labels[label] for label in metric.labels)
                for sample in family.samples
                if not sample.name.endswith("_bucket")
            }
            assert all(set(sample.labels) - {"le"} == set(metric.labels) for sample in family.samples)
            if metric.name != "adafocus_model_info":
                assert found == set(metric.series(steps, ("toy",))), metric.name
        assert [set(sample.labels.values()) for sample in by_name["adafocus_model_info"].samples] == [
            {"toy", "1.0", "onnxruntime-cpu", "fp32"}
        ]


async def test_routes_are_counted_by_their_templates(tmp_path: Path) -> None:
    own = [route for route in ROUTES if route != "other"]
    async with serving(make_settings(tmp_path)) as running:
        assert set(running.app.openapi()["paths"]) <= set(own)
        async with running.client() as client:
            for template in own:
                method = "POST" if template.endswith("load") else "GET"
                await client.request(method, template.replace("{name}", "no-such-file"))
            await client.get("/no/such/route")
    for template in set(own) - {"/metrics"}:  # the scrape that would show it is not over yet
        status = "4xx" if template == "/classify" or "{" in template else "2xx"
        assert running.metric("adafocus_http_requests_total", route=template, status=status) == 1, template
    assert running.metric("adafocus_http_requests_total", route="other", status="4xx") == 1
