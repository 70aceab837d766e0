"""The types of KServe's own SDK: its requests are answered, its words read the answers.

`kserve` brings 450 MB with it, a Kubernetes client and a gRPC server among them, all imported by its ``__init__``. Its
protocol needs none of that, so it is installed without them and its package is entered without its ``__init__``.
"""

import base64
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import requests

from .visit import SAMPLES

MODEL = "sky"
HEADER = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def package() -> Iterator[None]:
    found = importlib.util.find_spec("kserve")
    if found is None:
        pytest.skip("kserve does not install on this version of Python")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "kserve", importlib.util.module_from_spec(found))
        yield
    for name in [name for name in sys.modules if name.startswith("kserve.")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def kserve(package: None) -> ModuleType:
    return importlib.import_module("kserve.protocol.infer_type")


@pytest.fixture(scope="module")
def words(package: None) -> ModuleType:
    return importlib.import_module("kserve.protocol.rest.v2_datamodels")


def sent(url: str, request: Any) -> requests.Response:
    """What a KServe request is answered, sent as its client does."""
    body, length = request.to_rest()
    infer = f"{url}/v2/models/{MODEL}/infer"
    if length is None:
        return requests.post(infer, json=body, timeout=60)
    headers = {"Content-Type": "application/octet-stream", HEADER: str(length)}
    return requests.post(infer, body, headers=headers, timeout=60)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/v2", "ServerMetadataResponse"),
        ("/v2/health/live", "ServerLiveResponse"),
        ("/v2/health/ready", "ServerReadyResponse"),
        (f"/v2/models/{MODEL}", "ModelMetadataResponse"),
        (f"/v2/models/{MODEL}/ready", "ModelReadyResponse"),
    ],
)
def test_health_and_metadata_are_its_words(url: str, words: ModuleType, path: str, word: str) -> None:
    answer = requests.get(url + path, timeout=60)
    told = getattr(words, word).model_validate_json(answer.content, strict=True, extra="forbid")
    assert told.model_dump() == answer.json()


@pytest.mark.parametrize("binary", [True, False], ids=["bytes", "json"])
@pytest.mark.parametrize("binary_output", [True, False], ids=["bytes", "json"])
def test_its_requests_are_answered_in_its_words(
    url: str, kserve: ModuleType, words: ModuleType, binary: bool, binary_output: bool
) -> None:
    clip = (SAMPLES / "drone.mp4").read_bytes()
    video = kserve.InferInput("video", [1], "BYTES")
    if binary:
        video.set_data_from_numpy(np.array([clip], dtype=object), binary_data=True)
    else:
        video.data = [base64.b64encode(clip).decode()]
    parameters = {"exit": "balanced", "top_k": 2, "binary_data_output": binary_output}
    request = kserve.InferRequest(MODEL, [video], request_id="mine", parameters=parameters)
    response = sent(url, request)
    if binary_output:
        answer = kserve.InferResponse.from_bytes(response.content, int(response.headers[HEADER]))
    else:
        words.InferenceResponse.model_validate(response.json())
        answer = kserve.InferResponse.from_rest(response.json())
    outputs = {output.name: output.as_numpy() for output in answer.outputs}
    assert (answer.model_name, answer.id) == (MODEL, "mine")
    assert outputs["label"][0] in (b"drone", "drone")
    assert outputs["score"].dtype == np.float32
    assert outputs["index"].tolist()[0] == 2
    assert answer.parameters["exit_point"] == "balanced"


def test_only_the_outputs_that_it_asks_for(url: str, kserve: ModuleType) -> None:
    video = kserve.InferInput("video", [1], "BYTES")
    video.set_data_from_numpy(np.array([(SAMPLES / "airplane.mp4").read_bytes()], dtype=object), binary_data=True)
    wish = kserve.RequestedOutput("label", parameters={"binary_data": False})
    response = sent(url, kserve.InferRequest(MODEL, [video], request_outputs=[wish]))
    (output,) = kserve.InferResponse.from_rest(response.json()).outputs
    assert output.as_numpy()[0] == "airplane"


def test_a_refusal_is_the_protocols(url: str, kserve: ModuleType) -> None:
    video = kserve.InferInput("video", [1], "BYTES")
    video.set_data_from_numpy(np.array([b"x" * 1000], dtype=object), binary_data=True)
    refused = sent(url, kserve.InferRequest(MODEL, [video]))
    assert refused.status_code == 415
    assert refused.json().keys() == {"error"}
