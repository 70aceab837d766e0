"""Static checks of the Dockerfile and the compose files. `make docker-verify` runs them for real."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from adafocus.service.live.config import load_cameras
from adafocus.service.settings import Settings

SET_BY_THE_IMAGE = {"host", "port", "backend", "samples"}
ABSENT_ON_PURPOSE = SET_BY_THE_IMAGE


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


@pytest.fixture
def compose(project_root: Path) -> dict[str, Any]:
    return load(project_root / "docker-compose.yml")


@pytest.fixture
def template(project_root: Path) -> dict[str, Any]:
    service: dict[str, Any] = load(project_root / "docker" / "service.yml")["services"]["service"]
    return service


def test_every_setting_can_be_set_from_outside(template: dict[str, Any]) -> None:
    offered = {name.removeprefix("ADAFOCUS_").lower() for name in template["environment"]}
    assert offered == set(Settings.model_fields) - ABSENT_ON_PURPOSE


@pytest.fixture
def cameras(project_root: Path) -> dict[str, Any]:
    service: dict[str, Any] = load(project_root / "docker" / "compose.cameras.yml")["services"]["cameras"]
    return service


@pytest.mark.parametrize("which", ["template", "cameras"])
def test_the_service_can_do_no_more_than_it_must(which: str, request: pytest.FixtureRequest) -> None:
    template = request.getfixturevalue(which)
    assert template["read_only"] is True
    assert template["cap_drop"] == ["ALL"]
    assert template["security_opt"] == ["no-new-privileges:true"]
    assert template["mem_limit"] and template["pids_limit"]
    assert [mount.split(":")[0] for mount in template["tmpfs"]] == ["/tmp"]  # noqa: S108 - the container's


def test_a_stop_outlasts_the_longest_request(template: dict[str, Any]) -> None:
    environment = template["environment"]
    given = {
        name: environment[f"ADAFOCUS_{name.upper()}"] for name in ("request_timeout_seconds", "drain_grace_seconds")
    }
    assert all(value.endswith(":-}") for value in given.values()), "the service's own defaults"
    longest, drain = (Settings.model_fields[name].default for name in given)
    grace = float(template["stop_grace_period"].split(":-")[1].rstrip("s}"))
    assert grace > longest + drain


def test_the_gpu_is_reserved_and_bundles_are_read_only(compose: dict[str, Any]) -> None:
    service = compose["services"]["adafocus"]
    assert service["build"]["target"] == "serve-gpu"
    device = service["deploy"]["resources"]["reservations"]["devices"][0]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert "${ADAFOCUS_BUNDLES:-./bundles}:/bundles:ro" in service["volumes"]


def test_without_a_gpu_nothing_that_needs_one_starts(project_root: Path, compose: dict[str, Any]) -> None:
    override = load(project_root / "docker" / "compose.cpu.yml")["services"]
    need_one = {
        name for name, service in compose["services"].items() if "reservations" in str(service.get("deploy", ""))
    }
    assert need_one == {"adafocus", "dcgm-exporter"}
    assert all(override[name] == {"profiles": ["gpu"]} for name in need_one)
    standing_in = override["adafocus-cpu"]
    assert standing_in["networks"]["default"]["aliases"] == ["adafocus"]
    assert standing_in["extends"] == compose["services"]["adafocus"]["extends"]
    assert standing_in["volumes"] == compose["services"]["adafocus"]["volumes"]


def test_only_this_host_reaches_the_ports_unless_told_otherwise(
    compose: dict[str, Any], template: dict[str, Any], cameras: dict[str, Any]
) -> None:
    services = (*compose["services"].values(), template, cameras)
    ports = [port for service in services for port in service.get("ports", [])]
    assert ports and all(re.match(r"\$\{\w+:-127\.0\.0\.1:\d+\}:\d+$", port) for port in ports)


def test_what_is_mounted_exists(project_root: Path, compose: dict[str, Any]) -> None:
    others = [load(project_root / "docker" / f"compose.{name}.yml") for name in ("cpu", "cameras")]
    for services in (compose["services"], *(other["services"] for other in others)):
        for service in services.values():
            for volume in service.get("volumes", []):
                source = re.sub(r"^\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[0]
                if source.startswith("./"):
                    assert (project_root / source).exists(), volume
                else:
                    assert source in compose["volumes"], volume


@pytest.mark.parametrize("file", ["docker-compose.yml", "docker/compose.cpu.yml"])
def test_keys_and_prepared_models_have_a_place_outside_of_the_container(project_root: Path, file: str) -> None:
    (service,) = (
        service
        for name, service in load(project_root / file)["services"].items()
        if name.startswith("adafocus") and "extends" in service
    )
    mounts = {target: (source, mode) for source, target, mode in map(_mount, service["volumes"])}
    secrets, mode = mounts["/secrets"]
    assert (secrets, mode) == ("${ADAFOCUS_SECRETS:-./docker/secrets}", "ro")
    assert mounts["/var/cache/adafocus"] == ("model-cache", "rw")
    example = (project_root / ".env.example").read_text(encoding="utf-8")
    assert re.search(r"/secrets/NAME [^=]*\n(#.*\n)?ADAFOCUS_API_KEYS_FILE=", example)
    assert re.search(r"/var/cache/adafocus,[^=]*\n(#.*\n)?ADAFOCUS_MODEL_CACHE=", example)


def _mount(volume: str) -> tuple[str, str, str]:
    """Source, target and mode of a volume in Compose's short form."""
    source, target, mode = re.fullmatch(r"(\$\{[^}]*\}|[^:]+):([^:]+)(?::(\w+))?", volume).groups()  # type: ignore[union-attr]
    return source, target, mode or "rw"


def test_prometheus_reads_the_cameras_where_they_run(project_root: Path, cameras: dict[str, Any]) -> None:
    folder = project_root / "docker" / "prometheus"
    targets = yaml.safe_load((folder / "camera-targets.yml").read_text(encoding="utf-8"))
    port = cameras["command"][cameras["command"].index("--port") + 1]
    assert targets == [{"targets": [f"cameras:{port}"]}]
    assert yaml.safe_load((folder / "no-camera-targets.yml").read_text(encoding="utf-8")) == []
    assert cameras["healthcheck"]["test"][-2:] == [port, "/healthz"]


@pytest.mark.parametrize("file", ["docker/cameras/cameras.toml", "docker/verify/cameras/cameras.toml"])
def test_the_files_of_cameras_can_be_read(project_root: Path, file: str) -> None:
    assert load_cameras(project_root / file).camera


def test_no_key_in_the_folder_for_them_can_be_committed(project_root: Path) -> None:
    rules = (project_root / "docker/secrets/.gitignore").read_text(encoding="utf-8").splitlines()
    assert [rule for rule in rules if not rule.startswith("#")] == ["*", "!.gitignore"]


def test_the_place_of_prepared_models_belongs_to_the_services_user_alone(project_root: Path) -> None:
    """A new volume takes the owner and mode of the image's folder; the service refuses one that others can write."""
    dockerfile = (project_root / "Dockerfile").read_text(encoding="utf-8")
    user = re.findall(r"^USER (\d+):(\d+)$", dockerfile, flags=re.MULTILINE)
    assert set(user) == {("10001", "10001")}
    assert "RUN install -d -o 10001 -g 10001 -m 700 /var/cache/adafocus\n" in dockerfile


def test_the_example_names_every_variable_with_its_default(project_root: Path) -> None:
    files = ["docker-compose.yml", "docker/compose.cpu.yml", "docker/compose.cameras.yml", "docker/service.yml"]
    text = "\n".join((project_root / name).read_text(encoding="utf-8") for name in files)
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    example = (project_root / ".env.example").read_text(encoding="utf-8")
    offered = dict(re.findall(r"^(\w+)=(.*)$", example, flags=re.MULTILINE))
    assert offered == used


def test_every_line_of_the_example_is_the_services_default(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = (project_root / ".env.example").read_text(encoding="utf-8")
    lines = dict(re.findall(r"^(ADAFOCUS_\w+)=(.*)$", example, flags=re.MULTILINE))
    of_host = lines.pop("ADAFOCUS_BUNDLES")  # the folder on the host; the service has it as ADAFOCUS_SERVED_BUNDLES
    assert of_host == "./bundles"
    settings = {name: value for name, value in lines.items() if _field(name) in Settings.model_fields}
    assert len(settings) > 20
    for name in settings:
        monkeypatch.delenv(name, raising=False)
    default = Settings(bundle=Path("b"))
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
        assert getattr(Settings(bundle=Path("b")), _field(name)) == getattr(default, _field(name)), name


def _field(variable: str) -> str:
    return variable.removeprefix("ADAFOCUS_").lower()


def test_what_old_engines_do_not_know_is_not_used(project_root: Path, compose: dict[str, Any]) -> None:
    dockerfile = (project_root / "Dockerfile").read_text(encoding="utf-8")
    assert not re.search(r"^# *syntax=|<<|--link|@sha256|--mount", dockerfile, flags=re.MULTILINE)
    assert not {"name", "version"} & set(compose)
    for service in compose["services"].values():
        assert "gpus" not in service
        assert "start_interval" not in service.get("healthcheck", {})


def test_images_hold_every_room_that_they_need_and_no_other(project_root: Path) -> None:
    dockerfile = (project_root / "Dockerfile").read_text(encoding="utf-8")
    serving = {"adafocus", "bundle", "video", "service", "cli"}
    for name, folders in (("serving-code", serving), ("whole-code", serving | {"model", "training", "export"})):
        stage = dockerfile.split(f"FROM builder AS {name}")[1].split("FROM ")[0]
        assert set(re.findall(r"^COPY (\w+) \./", stage, flags=re.MULTILINE)) == folders


def test_nothing_reaches_an_image_that_is_not_named(project_root: Path) -> None:
    lines = (project_root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    dockerfile = (project_root / "Dockerfile").read_text(encoding="utf-8")
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, flags=re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied == {rule[1:] for rule in rules if rule.startswith("!")}


def run_requirements(project_root: Path, extras: str) -> subprocess.CompletedProcess[str]:
    script = project_root / "docker" / "requirements.py"
    return subprocess.run([sys.executable, "-I", str(script), extras], capture_output=True, text=True, timeout=60)


def pins(text: str) -> dict[str, str]:
    """The versions in a list or in constraints, by the name of the package as PyPI normalises it."""
    found = re.findall(r"^([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==([^ ;\\\n]+)", text, flags=re.MULTILINE)
    return {_normalised(name): version for name, version in found}


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


IMAGES = [
    "serve",
    "serve,otel,cloud,signed,draw,parquet,openvino",
    "gpu",
    "gpu,otel,cloud,draw",
    "train,pretrained,export",
]


@pytest.mark.parametrize("extras", IMAGES)
def test_the_lists_of_an_image_have_all_its_dependencies_with_hashes(project_root: Path, extras: str) -> None:
    done = run_requirements(project_root, extras)
    assert done.returncode == 0, done.stderr
    project = tomllib.loads((project_root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(x for extra in extras.split(",") for x in project["optional-dependencies"][extra]),
    ]
    names = {_normalised(re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0]) for line in wanted}
    locked = pins(done.stdout)
    assert names <= set(locked), "run docker/lock.py"
    entries = re.split(r"^(?=\w)", done.stdout, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked)
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("extras", [*IMAGES, "build"])
def test_locked_versions_are_those_that_the_project_is_tested_with(project_root: Path, extras: str) -> None:
    tested = pins((project_root / "constraints.txt").read_text(encoding="utf-8"))
    if extras.startswith("gpu"):
        tested |= pins((project_root / "docker" / "constraints-gpu.txt").read_text(encoding="utf-8"))
    locked = pins(run_requirements(project_root, extras).stdout)
    assert {name: version for name, version in locked.items() if tested.get(name, version) != version} == {}


def test_images_for_serving_hold_no_torch_and_one_runtime(project_root: Path) -> None:
    serve, gpu = (set(pins(run_requirements(project_root, extras).stdout)) for extras in ("serve", "gpu"))
    assert not any("torch" in name for name in serve | gpu)
    assert "onnxruntime" in serve and "onnxruntime-gpu" not in serve
    assert "onnxruntime-gpu" in gpu and "onnxruntime" not in gpu


def test_an_extra_without_a_list_is_refused(project_root: Path) -> None:
    done = run_requirements(project_root, "serve,ray")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("'ray' is not an extra for images; there are build, cloud")


def test_every_package_of_an_image_is_checked_against_its_hash(project_root: Path) -> None:
    dockerfile = (project_root / "Dockerfile").read_text(encoding="utf-8")
    installs = [line for line in dockerfile.replace("\\\n", "").splitlines() if re.search(r"pip\b.* install ", line)]
    assert len(installs) == 6
    assert all(
        "--require-hashes" in line or line.endswith("--no-build-isolation --prefix /code .") for line in installs
    )


def test_only_what_has_a_port_can_be_reached_and_nothing_has_a_way_out(
    project_root: Path, compose: dict[str, Any]
) -> None:
    networks = compose["networks"]
    assert networks["default"] == {"internal": True}
    (masquerade,) = networks["edge"]["driver_opts"].items()
    assert masquerade == ("com.docker.network.bridge.enable_ip_masquerade", "${ADAFOCUS_WAY_OUT:-false}")
    standing_in = load(project_root / "docker" / "compose.cpu.yml")["services"]["adafocus-cpu"]
    template = load(project_root / "docker" / "service.yml")["services"]["service"]
    for service in (*compose["services"].values(), standing_in):
        whole = {**(template if "extends" in service else {}), **service}
        if "ports" in whole:
            assert set(whole["networks"]) == {"default", "edge"}
            assert whole["dns"] == "${ADAFOCUS_DNS:-127.0.0.1}"
        else:
            assert "networks" not in whole


@pytest.mark.parametrize(
    ("environment", "starts"),
    [
        ({}, False),
        ({"GF_SECURITY_ADMIN_PASSWORD": ""}, False),
        ({"GF_SECURITY_ADMIN_PASSWORD": "admin"}, False),
        ({"GF_SECURITY_ADMIN_PASSWORD": "admin", "GRAFANA_ALLOW_ADMIN": "true"}, True),
        ({"GF_SECURITY_ADMIN_PASSWORD": "of our own", "GRAFANA_ALLOW_ADMIN": "false"}, True),
    ],
)
def test_grafana_needs_a_password_of_its_own(project_root: Path, environment: dict[str, str], starts: bool) -> None:
    done = subprocess.run(
        ["/bin/sh", str(project_root / "docker/grafana/start.sh"), "printenv", "GF_SECURITY_ADMIN_PASSWORD"],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode == 0) == starts
    if starts:
        assert done.stdout.strip() == environment["GF_SECURITY_ADMIN_PASSWORD"]
    else:
        assert done.stderr.startswith("Grafana does not start: GRAFANA_ADMIN_PASSWORD is ")


def test_grafana_is_started_by_the_script_and_shows_nothing_to_strangers(compose: dict[str, Any]) -> None:
    grafana = compose["services"]["grafana"]
    assert grafana["entrypoint"] == ["/bin/sh", "/etc/adafocus/start.sh"]
    assert "./docker/grafana/start.sh:/etc/adafocus/start.sh:ro" in grafana["volumes"]
    assert grafana["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "${GRAFANA_ANONYMOUS:-false}"
