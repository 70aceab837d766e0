"""The Open Inference Protocol over a real connection, in the bytes that its clients send."""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from adafocus.service.schemas import open_inference as protocol
from adafocus.service.schemas.classify import Classification
from adafocus.service.schemas.open_inference import MAX_HEADER_BYTES
from adafocus.service.schemas.tensors import MAX_JSON_SYNTAX
from tests import tolerances
from tests.e2e.tiny import write_clip
from tests.service.server import Running, make_settings, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "/v2/models/toy"
HEADER = "Inference-Header-Content-Length"
MAX_UPLOAD = 300_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    settings = make_settings(tmp_path_factory.mktemp("bundles"), max_upload_bytes=MAX_UPLOAD, upload_timeout_seconds=4)
    async with serving(settings) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with running.client() as client:
        yield client


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("clips") / "bright.mp4", "bright").read_bytes()


def video(clip: bytes | None = None, **changes: Any) -> dict[str, Any]:
    data = {} if clip is None else {"data": [base64.b64encode(clip).decode()]}
    return {"name": "video", "shape": [1], "datatype": "BYTES", **data, **changes}


def binary(clip: bytes, **request: Any) -> tuple[bytes, dict[str, str]]:
    """A request as clients of the binary extension send it."""
    element = struct.pack("<I", len(clip)) + clip
    tensor = video(parameters={"binary_data_size": len(element)})
    head = json.dumps({"inputs": [tensor], **request}).encode()
    return head + element, {HEADER: str(len(head)), "Content-Type": "application/octet-stream"}


def outputs(answer: httpx.Response) -> dict[str, Any]:
    """The answer's tensors as lists, whichever way they came."""
    head = answer.headers.get(HEADER)
    document = json.loads(answer.content[: int(head)] if head else answer.content)
    rest = answer.content[int(head) :] if head else b""
    found = {}
    for tensor in document["outputs"]:
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[tensor["name"]] = tensor["data"]
            continue
        piece, rest = rest[:size], rest[size:]
        found[tensor["name"]] = unpack(tensor["datatype"], piece)
        assert [len(found[tensor["name"]])] == tensor["shape"]
    assert rest == b""
    return found


def unpack(datatype: str, piece: bytes) -> list[Any]:
    if datatype != "BYTES":
        form = {"FP32": "f", "INT64": "q"}[datatype]
        return list(struct.unpack(f"<{len(piece) // struct.calcsize(form)}{form}", piece))
    elements = []
    while piece:
        (length,) = struct.unpack("<I", piece[:4])
        elements.append(piece[4 : 4 + length].decode())
        piece = piece[4 + length :]
    return elements


async def test_health_and_metadata(client: httpx.AsyncClient) -> None:
    server = (await client.get("/v2")).json()
    assert (server["name"], server["extensions"]) == ("adafocus", ["binary_tensor_data"])
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    assert (await client.get("/v2/health/ready")).json() == {"ready": True}
    for path in (MODEL, f"{MODEL}/versions/1.0"):
        model = (await client.get(path)).json()
        assert (model["name"], model["versions"]) == ("toy", ["1.0"])
        assert model["inputs"] == [{"name": "video", "datatype": "BYTES", "shape": [1]}]
        assert [tensor["name"] for tensor in model["outputs"]] == ["label", "score", "index", "answer"]
        assert (await client.get(f"{path}/ready")).json() == {"name": "toy", "ready": True}


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/1.0"])
async def test_json_in_and_json_out(client: httpx.AsyncClient, clip: bytes, path: str) -> None:
    parameters = {"exit": "fast", "top_k": 2, "deadline_ms": 60000}
    answer = await client.post(f"{path}/infer", json={"id": "mine", "inputs": [video(clip)], "parameters": parameters})
    document = answer.json()
    assert answer.status_code == 200, document
    assert (document["model_name"], document["model_version"], document["id"]) == ("toy", "1.0", "mine")
    told = outputs(answer)
    assert told["label"][0] == "bright"
    assert told["index"][0] == 2
    assert len(told["score"]) == 2
    whole = Classification.model_validate_json(told["answer"][0])
    assert [prediction.score for prediction in whole.predictions] == pytest.approx(told["score"])
    costs = document["parameters"]
    assert (costs["exit_point"], costs["exit_step"], costs["exit_steps"]) == ("fast", 1, 4)
    assert costs["gflops"] == whole.compute.gflops == pytest.approx(0.005)


@pytest.mark.parametrize("dimensions", [1, 2, 8])
@pytest.mark.parametrize("nested", [True, False])
async def test_data_may_be_nested_as_the_shape_says_or_flat(
    client: httpx.AsyncClient, clip: bytes, dimensions: int, nested: bool
) -> None:
    data: Any = base64.b64encode(clip).decode()
    for _ in range(dimensions if nested else 1):
        data = [data]
    request = {"inputs": [video(shape=[1] * dimensions, data=data)], "parameters": {"top_k": 1}}
    answer = await client.post(f"{MODEL}/infer", json=request)
    assert answer.status_code == 200, answer.text
    assert outputs(answer)["label"] == ["bright"]


async def test_bytes_in_and_bytes_out(running: Running, client: httpx.AsyncClient, clip: bytes) -> None:
    before = running.metric("adafocus_requests_total", outcome="ok")
    body, headers = binary(clip, parameters={"binary_data_output": True, "top_k": 3})
    answer = await client.post(f"{MODEL}/infer", content=body, headers=headers)
    assert answer.headers["content-type"] == "application/octet-stream"
    told = outputs(answer)
    assert told["label"][0] == "bright"
    assert sorted(told["index"]) == [0, 1, 2]
    assert sum(told["score"]) == pytest.approx(1, abs=tolerances.PROBABILITY_SUM)
    assert running.metric("adafocus_requests_total", outcome="ok") == before + 1


async def test_outputs_are_those_that_were_asked_for_each_in_its_way(client: httpx.AsyncClient, clip: bytes) -> None:
    wishes = [{"name": "score", "parameters": {"binary_data": True}}, {"name": "label"}]
    answer = await client.post(f"{MODEL}/infer", json={"inputs": [video(clip)], "outputs": wishes})
    assert list(outputs(answer)) == ["score", "label"]
    body, headers = binary(
        clip,
        parameters={"binary_data_output": True},
        outputs=[{"name": "index", "parameters": {"binary_data": False}}],
    )
    answer = await client.post(f"{MODEL}/infer", content=body, headers=headers)
    assert answer.headers["content-type"] == "application/json"
    assert outputs(answer)["index"][0] == 2


async def test_tritons_own_words_are_understood(client: httpx.AsyncClient, clip: bytes) -> None:
    patient = {"inputs": [video(clip)], "parameters": {"timeout": 30_000_000, "priority": 1}}
    answer = await client.post(f"{MODEL}/infer", json=patient)
    assert answer.status_code == 200
    assert "decode;dur=" in answer.headers["server-timing"]
    assert protocol.RequestParameters(timeout=5000).as_pairs == [("deadline_ms", "5.0")]
    assert protocol.RequestParameters(timeout=5000, deadline_ms=2.0).as_pairs == [("deadline_ms", "2.0")]
    assert protocol.RequestParameters(timeout=0, priority=-1).as_pairs == []
    assert protocol.RequestParameters(timeout=1).as_pairs == [("deadline_ms", "1.0")]
    assert protocol.RequestParameters(timeout=10**400).as_pairs == [("deadline_ms", "86400000.0")]


async def test_the_answer_is_that_of_classify(client: httpx.AsyncClient, clip: bytes) -> None:
    body, headers = binary(clip, parameters={"exit": "accurate", "max_gflops": 0.011})
    told = json.loads(outputs(await client.post(f"{MODEL}/infer", content=body, headers=headers))["answer"][0])
    other = (await client.post("/classify?exit=accurate&max_gflops=0.011", content=clip)).json()
    assert [told[part] for part in ("predictions", "exit", "video")] == [
        other[part] for part in ("predictions", "exit", "video")
    ]


def wrong(**changes: Any) -> dict[str, Any]:
    return {"inputs": [video(b"x")], **changes}


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({}, "inputs"),
        (wrong(inputs=[]), "inputs"),
        (wrong(inputs=[video(b"x"), video(b"x")]), "inputs"),
        (wrong(inputs=[video(b"x", name="image")]), "video"),
        (wrong(inputs=[video(b"x", datatype="FP32")]), "BYTES"),
        (wrong(inputs=[video(b"x", shape=[2])]), "inputs.0.shape: a request holds one video, so the shape must be [1]"),
        (wrong(inputs=[video(b"x", shape=[1, 2])]), "inputs.0.shape: a request holds one video"),
        (wrong(inputs=[video(b"x", shape=[])]), "inputs.0.shape"),
        (wrong(inputs=[video()]), "base64"),
        (wrong(inputs=[video(data=["not base64!"])]), "base64"),
        (
            wrong(inputs=[video(data=["a", "b"])]),
            "inputs.0.data: a request holds one video, so data must have one element, got 2",
        ),
        (wrong(inputs=[video(data=[["a", "b"]], shape=[1, 1])]), "so data must have one element, got 2"),
        (wrong(inputs=[video(data=[["a"], ["b"]], shape=[1, 1])]), "so data must have one element, got 2"),
        (wrong(inputs=[video(data=[[]], shape=[1, 1])]), "so data must have one element, got 0"),
        (wrong(inputs=[video(data=[["YQ=="]])]), "data is nested 2 deep but the shape has 1 dimension;"),
        (
            wrong(inputs=[video(data=[["YQ=="]], shape=[1, 1, 1])]),
            "data is nested 2 deep but the shape has 3 dimensions;",
        ),
        (wrong(inputs=[video(data=[[5]], shape=[1, 1])]), "inputs.0.data"),
        (wrong(inputs=[video(data="YQ==")]), "inputs.0.data"),
        (wrong(outputs=[{"name": "logits"}]), "label"),
        (wrong(outputs=[{"name": "answer"}] * 6), "outputs: "),
        (wrong(ignored=[1] * MAX_JSON_SYNTAX), "commas and opening brackets"),
        (wrong(ignored=[{"a": []}] * (MAX_JSON_SYNTAX // 3)), "commas and opening brackets"),
        (wrong(parameters={"speed": 3}), "unknown parameter 'speed'"),
        (wrong(parameters={"exit": "slow"}), "exit must be one of"),
        (wrong(parameters={"top_k": 2.5}), "top_k"),
        (wrong(parameters={"top_k": True}), "top_k"),
    ],
)
async def test_what_is_wrong_is_said_in_the_words_of_the_protocol(
    client: httpx.AsyncClient, request_: dict[str, Any], says: str
) -> None:
    answer = await client.post(f"{MODEL}/infer", json=request_)
    assert answer.status_code == 400
    assert answer.json().keys() == {"error"}
    assert says in answer.json()["error"]


async def test_what_the_video_lacks_keeps_its_status(client: httpx.AsyncClient) -> None:
    for content, status in ((b"text" * 100, 415), (b"", 400)):
        answer = await client.post(f"{MODEL}/infer", json={"inputs": [video(content)]})
        assert answer.status_code == status
        assert answer.json().keys() == {"error"}
        body, headers = binary(content)
        assert (await client.post(f"{MODEL}/infer", content=body, headers=headers)).status_code == status


async def test_lengths_that_do_not_agree(client: httpx.AsyncClient, clip: bytes) -> None:
    body, headers = binary(clip)
    head = int(headers[HEADER])
    prefix = body[head : head + 4]
    for content, changed in (
        (body[:-1], headers),
        (body + b"x", headers),
        (body.replace(prefix, struct.pack("<I", len(clip) - 1), 1), headers),
        (body[: head + 2], headers),
        (body[: head - 2], headers),
        (body, {HEADER: str(head - 1)}),
        (body, {HEADER: "-1"}),
        (body, {HEADER: str(MAX_HEADER_BYTES + 1)}),
        (b'{"inputs": []}', {HEADER: "14"}),
        (json.dumps({"inputs": [video()]}).encode(), {HEADER: str(len(json.dumps({"inputs": [video()]})))}),
    ):
        answer = await client.post(f"{MODEL}/infer", content=content, headers=changed)
        assert answer.status_code == 400, answer.text
        assert answer.json().keys() == {"error"}


async def test_what_is_too_large_is_refused_either_way(client: httpx.AsyncClient) -> None:
    big = bytes(MAX_UPLOAD + 1000)
    body, headers = binary(big)
    assert (await client.post(f"{MODEL}/infer", content=body, headers=headers)).status_code == 413
    text = b'"' + b"A" * (MAX_UPLOAD // 3 * 4 + MAX_HEADER_BYTES)
    assert (await client.post(f"{MODEL}/infer", content=text)).status_code == 413

    async def chunked() -> AsyncIterator[bytes]:
        for start in range(0, len(text), 50_000):
            yield text[start : start + 50_000]

    assert (await client.post(f"{MODEL}/infer", content=chunked())).status_code == 413


async def test_a_head_that_stalls_is_given_up(running: Running) -> None:
    reader, writer = await running.connect()
    writer.write(f"POST {MODEL}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{".encode())
    start = await asyncio.wait_for(reader.readline(), 20)
    assert b"408" in start
    writer.close()
    await writer.wait_closed()


async def test_models_versions_and_routes_that_are_not_there(client: httpx.AsyncClient) -> None:
    for path in ("/v2/models/other", f"{MODEL}/versions/9", "/v2/models/other/ready", "/v2/repository/models"):
        answer = await client.get(path)
        assert answer.status_code == 404
        assert answer.json().keys() == {"error"}
    answer = await client.post("/v2/models/other/infer", json=wrong())
    assert (answer.status_code, list(answer.json())) == (404, ["error"])
    assert (await client.get(f"{MODEL}/infer")).status_code == 405


async def test_before_the_model_is_there_it_is_not_ready(tmp_path: Path, clip: bytes) -> None:
    async with serving(make_settings(tmp_path)) as running, running.client() as client:
        running.service.begin_drain()
        for path in ("/v2/health/ready", f"{MODEL}/ready"):
            assert (await client.get(path)).status_code == 503
        assert (await client.get("/v2/health/live")).status_code == 200


async def test_keys_and_quotas_hold_here_too(tmp_path: Path, clip: bytes) -> None:
    settings = make_settings(tmp_path, api_keys="sesame", rate_limit_per_minute=1)
    body, headers = binary(clip)
    async with serving(settings) as running, running.client() as client:
        for path in ("/v2", MODEL):
            assert (await client.get(path)).status_code == 401
        assert (await client.get("/v2/health/ready")).status_code == 200
        assert (await client.post(f"{MODEL}/infer", content=body, headers=headers)).status_code == 401
        statuses = [
            (await client.post(f"{MODEL}/infer", content=body, headers={**headers, "X-API-Key": "sesame"})).status_code
            for _ in range(2)
        ]
        assert statuses == [200, 429]


async def test_the_schema_says_what_is_understood() -> None:
    words = protocol.InferenceRequest.model_json_schema()
    assert set(words["properties"]) == {"id", "parameters", "inputs", "outputs"}
    tensor = protocol.InputTensor.model_json_schema()
    assert (tensor["properties"]["shape"]["minItems"], tensor["properties"]["shape"]["maxItems"]) == (1, 8)
    assert tensor["properties"]["data"]["items"] == {"type": "string", "format": "byte"}
    assert "data" in tensor["required"]
