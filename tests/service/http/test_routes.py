"""The HTTP API with the tiny model, over a real connection."""

import gzip
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from adafocus.service.schemas.classify import Classification
from adafocus.service.schemas.parameters import MODEL, PARAMETERS
from tests import tolerances
from tests.e2e.tiny import BRIGHTNESS, write_clip
from tests.service.server import Running, make_settings, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAX_UPLOAD = 300_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    settings = make_settings(tmp_path_factory.mktemp("bundles"), max_upload_bytes=MAX_UPLOAD)
    async with serving(settings) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with running.client() as client:
        yield client


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("clips") / "grey.mp4").read_bytes()


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["instance"].endswith(answer.headers["x-request-id"])
    return answer.status_code, document["code"]


async def test_a_form_and_the_raw_bytes_get_the_same_answer(client: httpx.AsyncClient, clip: bytes) -> None:
    answers = [
        await client.post("/classify", files={"video": ("grey.mp4", clip)}),
        await client.post("/classify", files={"file": ("grey.mp4", clip)}),
        await client.post("/classify", content=clip),
        await client.post("/classify", content=clip, headers={"Content-Type": "application/x-www-form-urlencoded"}),
        await client.put("/classify", content=clip),
    ]
    assert [answer.status_code for answer in answers] == [200] * 5
    told = [Classification.model_validate(answer.json()) for answer in answers]
    assert len({(answer.predictions[0].label, answer.exit.step, answer.compute.gflops) for answer in told}) == 1


async def test_the_answer_says_what_it_saw_and_what_it_cost(client: httpx.AsyncClient, clip: bytes) -> None:
    answer = await client.post("/classify", content=clip, headers={"X-Request-ID": "abc"})
    told = Classification.model_validate(answer.json())
    assert told.id == answer.headers["x-request-id"] == "abc"
    assert (told.model.name, told.model.backend, told.model.precision) == ("toy", "onnxruntime-cpu", "fp32")
    assert told.predictions[0].label == "grey"
    assert sum(prediction.score for prediction in told.predictions) == pytest.approx(1, abs=tolerances.PROBABILITY_SUM)
    assert (told.exit.point, told.exit.reason, told.exit.step, told.exit.steps) == ("balanced", "confident", 2, 4)
    assert told.exit.threshold == 0.75
    assert told.exit.confidence == pytest.approx(told.predictions[0].score)
    assert told.compute.gflops == pytest.approx(0.01)
    assert told.compute.gflops_full == pytest.approx(0.02)
    assert (told.compute.glance_gflops, told.compute.focus_gflops) == (pytest.approx(0.002), pytest.approx(0.008))
    assert told.compute.frames_used == 2
    assert 2 <= told.compute.frames_decoded <= 10
    assert (told.video.container, told.video.codec, told.video.width, told.video.height) == ("mp4", "mpeg4", 64, 48)
    assert (told.video.fps, told.video.frames) == (10, 10)
    timing = told.timing_ms
    assert timing.total >= timing.upload >= 0
    stages = re.findall(r"(\w+);dur=[\d.e-]+", answer.headers["server-timing"])
    assert stages == ["total", "upload", "queue", "decode", "glance", "focus"]


@pytest.mark.parametrize("label", BRIGHTNESS)
async def test_the_label_is_the_videos(client: httpx.AsyncClient, tmp_path: Path, label: str) -> None:
    clip = write_clip(tmp_path / "clip.mp4", label).read_bytes()
    answer = await client.post("/classify", content=clip, params={"exit": "full", "top_k": 1})
    assert [prediction["label"] for prediction in answer.json()["predictions"]] == [label]


@pytest.mark.parametrize(
    ("params", "step", "reason"),
    [
        ({"exit": "fast"}, 1, "confident"),
        ({"exit": "accurate"}, 3, "confident"),
        ({"exit": "full"}, 4, "all_steps"),
        ({"exit": "full", "max_gflops": "0.0151"}, 3, "max_gflops"),
        ({"exit": "full", "max_gflops": "0.005"}, 1, "max_gflops"),
        ({"exit": "full", "deadline_ms": "60000"}, 4, "all_steps"),
    ],
)
async def test_where_it_stops_is_what_was_asked(
    client: httpx.AsyncClient, clip: bytes, params: dict[str, str], step: int, reason: str
) -> None:
    told = Classification.model_validate((await client.post("/classify", content=clip, params=params)).json())
    assert (told.exit.step, told.exit.reason) == (step, reason)
    assert told.compute.gflops == pytest.approx(0.005 * step)
    if params["exit"] == "full":
        assert told.exit.threshold is None


async def test_the_trace_only_when_asked(client: httpx.AsyncClient, clip: bytes) -> None:
    assert "trace" not in (await client.post("/classify", content=clip)).json()
    told = Classification.model_validate((await client.post("/classify?trace=true", content=clip)).json())
    assert told.trace is not None
    assert [entry.step for entry in told.trace] == [1, 2]
    assert {entry.label for entry in told.trace} == {"grey"}
    assert told.trace[-1].confidence == told.exit.confidence
    for entry in told.trace:
        assert 0 <= entry.frame < 10
        assert entry.time_s == pytest.approx(entry.frame / 10)
        assert 0 <= entry.patch.x <= entry.patch.x + entry.patch.width <= 64
        assert 0 <= entry.patch.y <= entry.patch.y + entry.patch.height <= 48


async def test_a_video_shorter_than_the_plan_is_answered(client: httpx.AsyncClient, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "short.mp4", seconds=0.2).read_bytes()
    told = Classification.model_validate((await client.post("/classify?exit=full", content=clip)).json())
    assert told.predictions[0].label == "grey"
    assert told.compute.frames_used <= 2


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/classify", b"", (400, "empty_body")),
        ("/classify?exit=slow", b"x", (400, "bad_parameter")),
        ("/classify?streams=true", b"x", (400, "bad_parameter")),
        ("/classify?frames=yes", b"x", (400, "bad_parameter")),
        ("/classify", b"this is a text, not a video" * 50, (415, "unsupported_media")),
        ("/classify", b"ffconcat version 1.0\nfile /etc/hostname\n", (415, "unsupported_media")),
        ("/classify", b"x" * (MAX_UPLOAD + 1), (413, "too_large")),
        ("/nowhere", b"x", (404, "not_found")),
        ("/readyz", b"x", (405, "method_not_allowed")),
    ],
)
async def test_what_cannot_be_answered_says_why(
    client: httpx.AsyncClient, path: str, body: bytes, expected: tuple[int, str]
) -> None:
    assert problem(await client.post(path, content=body)) == expected


async def test_an_unknown_parameter_is_named_and_the_known_ones_listed(client: httpx.AsyncClient) -> None:
    detail = (await client.post("/classify?streams=true", content=b"x")).json()["detail"]
    assert "'streams'" in detail
    assert all(name in detail for name in PARAMETERS)


@pytest.mark.parametrize("encoding", ["gzip", "Deflate", "identity, gzip"])
@pytest.mark.parametrize("path", ["/classify", "/classify?stream=true", "/v2/models/toy/infer"])
async def test_an_encoded_body_is_refused_in_the_words_of_the_route(
    client: httpx.AsyncClient, clip: bytes, path: str, encoding: str
) -> None:
    answer = await client.post(path, content=gzip.compress(clip), headers={"Content-Encoding": encoding})
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "identity"
    told = answer.json()
    assert repr(encoding) in (told["error"] if path.startswith("/v2") else told["detail"])
    assert told.get("code") == (None if path.startswith("/v2") else "unsupported_encoding")


async def test_identity_is_no_encoding(client: httpx.AsyncClient, clip: bytes) -> None:
    answer = await client.post("/classify", content=clip, headers={"Content-Encoding": "Identity"})
    assert answer.status_code == 200


async def test_forms_without_a_video(client: httpx.AsyncClient, clip: bytes) -> None:
    assert problem(await client.post("/classify", files={"movie": ("a.mp4", clip)})) == (400, "no_video_part")
    broken = {"Content-Type": "multipart/form-data"}
    assert problem(await client.post("/classify", content=clip, headers=broken)) == (400, "no_video_part")
    empty = await client.post("/classify", files={"video": ("a.mp4", b"")})
    assert problem(empty) == (400, "empty_body")


async def test_the_file_name_means_nothing_and_is_told_to_nobody(
    client: httpx.AsyncClient, clip: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        good = await client.post("/classify", files={"video": ("holiday.m3u8", clip)})
        bad = await client.post("/classify", files={"video": ("holiday.mp4", b"text" * 100)})
    assert (good.status_code, bad.status_code) == (200, 415)
    assert "holiday" not in good.text + bad.text + caplog.text


async def test_requests_are_counted_by_how_they_ended(running: Running, client: httpx.AsyncClient, clip: bytes) -> None:
    def to_metrics() -> tuple[float, float, float, float]:
        return (
            running.metric("adafocus_requests_total", outcome="ok"),
            running.metric("adafocus_requests_total", outcome="client_error"),
            running.metric("adafocus_rejections_total", code="bad_parameter"),
            running.metric("adafocus_flops_total", component="focus"),
        )

    before = to_metrics()
    await client.post("/classify", content=clip)
    await client.post("/classify?top_k=99", content=clip)
    assert [now - then for now, then in zip(to_metrics(), before, strict=True)] == [1, 1, 1, 8_000_000]


async def test_the_other_routes(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "alive"}
    assert (await client.get("/readyz")).status_code == 200
    model = (await client.get("/model")).json()
    assert model["labels"] == ["dark", "grey", "bright"]
    assert [point["name"] for point in model["operating_points"]] == ["full", "accurate", "balanced", "fast"]
    assert model["flops"]["glance"] == 1_000_000
    front = await client.get("/")
    assert front.headers["content-type"].startswith("text/html")
    assert (await client.get("/docs")).status_code == 200


async def test_metrics_in_both_formats(client: httpx.AsyncClient) -> None:
    plain = await client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'adafocus_model_info{backend="onnxruntime-cpu",name="toy",precision="fp32",version="1.0"} 1.0' in plain.text
    asked = await client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert asked.headers["content-type"].startswith("application/openmetrics-text")
    assert asked.text.endswith("# EOF\n")


async def test_the_api_describes_every_error_and_parameter(client: httpx.AsyncClient) -> None:
    operation = (await client.get("/openapi.json")).json()["paths"]["/classify"]["post"]
    assert {parameter["name"] for parameter in operation["parameters"]} == {MODEL, *PARAMETERS}
    bounds = {parameter["name"]: parameter["schema"] for parameter in operation["parameters"]}
    assert bounds["exit"]["enum"] == ["full", "accurate", "balanced", "fast"]
    assert (bounds["top_k"]["maximum"], bounds["max_gflops"]["minimum"]) == (3, 0.005)
    example = operation["responses"]["200"]["content"]["application/json"]["example"]
    assert Classification.model_validate(example).model.name == "toy"
    assert {"multipart/form-data", "application/octet-stream"} <= operation["requestBody"]["content"].keys()
    statuses = {"200", "400", "401", "404", "408", "413", "415", "422", "424", "429", "500", "503", "504"}
    assert set(operation["responses"]) == statuses
    for status, codes in {"400": "empty_body", "422": "too_many_pixels", "503": "draining"}.items():
        assert codes in operation["responses"][status]["description"]
        assert "application/problem+json" in operation["responses"][status]["content"]
