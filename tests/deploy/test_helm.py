"""The Helm chart and the InferenceService: what they set exists, and the tools of Kubernetes accept them.

What needs helm, kubernetes-validate or promtool is skipped where they are not installed.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from adafocus.service.settings import Settings
from adafocus.service.telemetry.definitions import CATALOGUE
from tests.conftest import ROOT

CHART = ROOT / "deploy" / "helm" / "adafocus"
VALUES = sorted((CHART / "values").glob("*.yaml"))
INFERENCE_SERVICE = ROOT / "deploy" / "kserve" / "inferenceservice.yaml"

Value = dict[str, Any]
Render = Callable[..., dict[str, Value]]


def load(path: Path) -> Value:
    loaded: Value = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def merged(base: Value, override: Value) -> Value:
    """Values with a file of values on top, as Helm merges them."""
    result = copy.deepcopy(base)
    for name, value in override.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = merged(result[name], value) if both else value
    return result


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}; docs/kubernetes.md says where it comes from")
    return found


@pytest.fixture(scope="module")
def helm() -> str:
    return tool("helm")


@pytest.fixture
def render(helm: str) -> Render:
    """Renders the chart; returns its objects by kind."""

    def template(*options: str) -> dict[str, Value]:
        command = [helm, "template", "videos", str(CHART), "--namespace", "media", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return {each["kind"]: each for each in yaml.safe_load_all(done.stdout) if each}

    return template


def container_of(objects: dict[str, Value]) -> Value:
    container: Value = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    return container


def environment_of(container: Value) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


def read_settings(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings that the service would have."""
    for name, value in environment.items():
        assert name.removeprefix("ADAFOCUS_").lower() in Settings.model_fields, name
        monkeypatch.setenv(name, value)
    return Settings()  # type: ignore[call-arg]


def test_the_schema_is_what_the_settings_say() -> None:
    spec = importlib.util.spec_from_file_location("write_schema", ROOT / "deploy" / "helm" / "write_schema.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (CHART / "values.schema.json").read_text(encoding="utf-8")
    assert written == module.text(), "run python deploy/helm/write_schema.py"
    offered = set(json.loads(written)["properties"]["settings"]["properties"])
    assert offered == set(Settings.model_fields) - {"host", "port", "bundle", "api_keys", "api_keys_file"}


def test_there_are_values_for_each_kind_of_host() -> None:
    assert [path.stem for path in VALUES] == ["autoscaled", "cpu", "gpu"]


@pytest.mark.parametrize("path", [CHART / "values.yaml", *VALUES], ids=lambda path: str(path.stem))
def test_values_fit_the_schema_and_each_other(path: Path) -> None:
    values = merged(load(CHART / "values.yaml"), load(path))
    jsonschema.Draft7Validator(load(CHART / "values.schema.json")).validate(values)
    assert _bytes(values["uploadSpace"]) < _bytes(values["resources"]["limits"]["memory"]), "uploads are in memory"
    upload_bytes = values["settings"].get("max_upload_bytes", Settings.model_fields["max_upload_bytes"].default)
    assert _bytes(values["uploadSpace"]) > 4 * upload_bytes


def _bytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([KMG]i)", quantity).groups()  # type: ignore[union-attr]
    return int(number) << {"Ki": 10, "Mi": 20, "Gi": 30}[unit]


def test_the_chart_has_the_version_of_the_program(project_root: Path) -> None:
    import tomllib

    version = tomllib.loads((project_root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert load(CHART / "Chart.yaml")["appVersion"] == version


def test_the_user_and_the_port_are_those_of_the_image(project_root: Path) -> None:
    dockerfile = (project_root / "Dockerfile").read_text(encoding="utf-8")
    uid, port = re.search(r"USER (\d+):", dockerfile)[1], re.search(r"EXPOSE (\d+)", dockerfile)[1]  # type: ignore[index]
    deployment = (CHART / "templates" / "deployment.yaml").read_text(encoding="utf-8")
    assert f"runAsUser: {uid}" in deployment
    assert f"containerPort: {port}" in deployment
    bundle = re.search(r"ADAFOCUS_BUNDLE=(\S+)", dockerfile)[1]  # type: ignore[index]
    assert load(CHART / "values.yaml")["bundle"]["path"] == bundle


def test_the_chart_is_sound(helm: str) -> None:
    for path in VALUES:
        command = [helm, "lint", "--strict", str(CHART), "-f", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", VALUES, ids=lambda path: str(path.stem))
def test_what_is_rendered_is_valid_for_kubernetes(path: Path, helm: str, tmp_path: Path) -> None:
    validate = tool("kubernetes-validate")
    command = [helm, "template", "videos", str(CHART), "-f", str(path)]
    rendered = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    (tmp_path / "all.yaml").write_text(rendered)
    for version in ("1.28", "1.33"):
        done = subprocess.run(
            [validate, "--strict", "-k", version, str(tmp_path / "all.yaml")],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert (done.stdout + done.stderr).count("passed") == 4


@pytest.mark.parametrize("kind", ["ScaledObject", "PodMonitor"])
def test_operators_know_every_field_of_their_objects(kind: str, helm: str) -> None:
    """Against models that are generated from the published definitions: cloudcoil-models-keda, -prometheus-operator."""
    if kind == "ScaledObject":
        models = pytest.importorskip("cloudcoil.models.keda.v1alpha1")
    else:
        models = pytest.importorskip("cloudcoil.models.prometheus_operator.v1")
    command = [helm, "template", "videos", str(CHART), "-f", str(CHART / "values" / "autoscaled.yaml")]
    rendered = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    (found,) = (value for value in yaml.safe_load_all(rendered) if value and value["kind"] == kind)
    known = getattr(models, kind).model_validate(found).model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert unknown_fields(found, known) == []


def unknown_fields(given: Any, known: Any, where: str = "") -> list[str]:
    """Where a value has a field that a model of it has dropped."""
    if isinstance(given, dict):
        lost = [f"{where}.{name}" for name in given if name not in known]
        return lost + [
            place
            for name, value in given.items()
            if name in known
            for place in unknown_fields(value, known[name], f"{where}.{name}")
        ]
    if isinstance(given, list):
        pairs = enumerate(zip(given, known, strict=True))
        return [place for index, (one, other) in pairs for place in unknown_fields(one, other, f"{where}[{index}]")]
    return []


@pytest.mark.parametrize("path", VALUES, ids=lambda path: str(path.stem))
def test_the_service_understands_its_environment(path: Path, render: Render, monkeypatch: pytest.MonkeyPatch) -> None:
    values = merged(load(CHART / "values.yaml"), load(path))
    settings = read_settings(environment_of(container_of(render("-f", str(path)))), monkeypatch)
    for name, value in values["settings"].items():
        assert getattr(settings, name) == value


def test_numbers_lists_and_flags_arrive_as_the_service_writes_them(
    render: Render, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = {
        "max_upload_bytes": 10_000_000_000,
        "min_upload_bytes_per_second": 0.5,
        "metrics_need_key": True,
        "engine_process": False,
        "codecs": ["h264", "hevc"],
        "containers": "mov,matroska",
        "precision": "int8",
        "otlp_endpoint": "http://collector:4318/v1/traces",
    }
    (tmp_path / "values.yaml").write_text(yaml.safe_dump({"settings": given}))
    settings = read_settings(environment_of(container_of(render("-f", str(tmp_path / "values.yaml")))), monkeypatch)
    assert settings.max_upload_bytes == 10_000_000_000
    assert settings.min_upload_bytes_per_second == 0.5
    assert (settings.metrics_need_key, settings.engine_process) == (True, False)
    assert settings.codecs == ("h264", "hevc")
    assert settings.containers == ("mov", "matroska")


def test_a_stop_outlasts_the_drain_and_the_longest_request(render: Render) -> None:
    options = ["settings.drain_grace_seconds=30", "settings.request_timeout_seconds=60", "stopMarginSeconds=5"]
    objects = render(*(word for option in options for word in ("--set-json", option)))
    assert objects["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 95


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("settings.max_quue=3", "'max_quue' not allowed"),
        ("settings.max_queue=-1", "minimum"),
        ("settings.api_keys=secret", "'api_keys' not allowed"),
        ("replica=3", "'replica' not allowed"),
        ("autoscaling.enabled=true", "autoscaling.enabled needs podMonitor.enabled"),
    ],
)
def test_values_that_mean_nothing_are_refused(option: str, message: str, helm: str) -> None:
    done = subprocess.run(
        [helm, "template", "videos", str(CHART), "--set", option], capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert message in done.stderr


def test_the_pod_can_do_no_more_than_it_must(render: Render) -> None:
    objects = render()
    pod, container = objects["Deployment"]["spec"]["template"]["spec"], container_of(objects)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["volumes"] == [{"name": "uploads", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}]
    assert objects["NetworkPolicy"]["spec"]["egress"] == []


def test_the_probes_ask_what_the_service_answers(render: Render) -> None:
    for container, paths in (
        (container_of(render()), {"startup": "/readyz", "readiness": "/readyz", "liveness": "/healthz"}),
        (
            load(INFERENCE_SERVICE)["spec"]["predictor"]["containers"][0],
            {"startup": "/v2/health/ready", "readiness": "/v2/health/ready", "liveness": "/v2/health/live"},
        ),
    ):
        assert {name: container[f"{name}Probe"]["httpGet"]["path"] for name in paths} == paths


def test_a_gpu_is_reserved_once_for_each_pod(render: Render) -> None:
    container = container_of(render("-f", str(CHART / "values" / "gpu.yaml")))
    assert container["image"] == "adafocus:gpu"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in container_of(render())["resources"]["limits"]


def test_pods_are_scaled_on_their_own_saturation(render: Render) -> None:
    objects = render("-f", str(CHART / "values" / "autoscaled.yaml"))
    assert "replicas" not in objects["Deployment"]["spec"]
    (trigger,) = objects["ScaledObject"]["spec"]["triggers"]
    assert trigger["metricType"] == "Value"
    query = trigger["metadata"]["query"]
    job = f"media/{objects['PodMonitor']['metadata']['name']}"
    assert (
        re.sub(r"\{.*?\}", "", query)
        == "(sum(adafocus_slots_active) + sum(adafocus_queue_depth)) / sum(adafocus_slots)"
    )
    assert set(re.findall(r'\{job="(.*?)"\}', query)) == {job}
    selector = objects["PodMonitor"]["spec"]["selector"]["matchLabels"]
    assert selector.items() <= objects["Deployment"]["spec"]["template"]["metadata"]["labels"].items()


def queries() -> list[str]:
    predictor = load(INFERENCE_SERVICE)["spec"]["predictor"]
    text = (CHART / "templates" / "_helpers.tpl").read_text(encoding="utf-8")
    of_chart = re.search(r'printf "(\(sum.*?)" \$job', text)[1].replace("%s", '{job="media/adafocus"}')  # type: ignore[index]
    return [of_chart, predictor["autoScaling"]["metrics"][0]["external"]["metric"]["query"]]


@pytest.mark.parametrize("query", queries())
def test_queries_name_metrics_of_the_service(query: str) -> None:
    known = {metric.name for metric in CATALOGUE}
    assert set(re.findall(r"adafocus_\w+", query)) == {
        "adafocus_slots_active",
        "adafocus_queue_depth",
        "adafocus_slots",
    }
    assert set(re.findall(r"adafocus_\w+", query)) <= known


@pytest.mark.parametrize("query", queries())
def test_the_query_is_the_share_that_is_meant(query: str, tmp_path: Path) -> None:
    """Two pods with four slots each: six are taken and one video waits."""
    promtool = tool("promtool")
    series = [
        (name, pod, value)
        for pod, values in (("adafocus-predictor-a", (4, 1, 4)), ("adafocus-predictor-b", (2, 0, 4)))
        for name, value in zip(("adafocus_slots_active", "adafocus_queue_depth", "adafocus_slots"), values, strict=True)
    ]
    (tmp_path / "rules.yml").write_text("groups: []\n")
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    {"series": f'{name}{{job="media/adafocus",pod="{pod}"}}', "values": f"{value}x4"}
                    for name, pod, value in series
                ],
                "promql_expr_test": [
                    {"expr": query, "eval_time": "30s", "exp_samples": [{"labels": "{}", "value": 7 / 8}]}
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    done = subprocess.run([promtool, "test", "rules", str(tmp_path / "test.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_inference_service_agrees_with_the_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = load(INFERENCE_SERVICE)["spec"]["predictor"]
    (container,) = predictor["containers"]
    settings = read_settings(environment_of(container), monkeypatch)
    assert predictor["timeout"] == settings.request_timeout_seconds
    assert predictor["terminationGracePeriodSeconds"] > settings.request_timeout_seconds + settings.drain_grace_seconds
    values = load(CHART / "values.yaml")
    assert container["resources"] == values["resources"]
    assert predictor["volumes"][0]["emptyDir"]["sizeLimit"] == values["uploadSpace"]
    assert container["ports"][0]["containerPort"] == settings.port == 8000
