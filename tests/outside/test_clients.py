"""A client of another project, used as its own documentation says."""

import base64
import json

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from .visit import ROOT, SAMPLES

MODEL = "sky"
VERSION = json.loads((ROOT / "bundles" / MODEL / "manifest.json").read_text(encoding="utf-8"))["version"]


@pytest.fixture
def client(url: str) -> InferenceServerClient:
    return InferenceServerClient(url.removeprefix("http://"))


def tensor(clip: bytes, *, binary: bool = True) -> InferInput:
    video = InferInput("video", [1], "BYTES")
    video.set_data_from_numpy(np.array([clip], dtype=object), binary_data=binary)
    return video


def test_health_and_metadata(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("another")
    assert client.get_server_metadata()["name"] == "adafocus"
    model = client.get_model_metadata(MODEL)
    assert [tensor["name"] for tensor in model["inputs"]] == ["video"]


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.mp4")), ids=lambda path: path.stem)
def test_the_samples_get_their_labels(client: InferenceServerClient, path) -> None:
    result = client.infer(MODEL, [tensor(path.read_bytes())], parameters={"exit": "full", "top_k": 2})
    assert result.as_numpy("label")[0].decode() == path.stem.split("_")[0]
    assert 0.3 < result.as_numpy("score")[0] <= 1
    assert result.as_numpy("index").shape == (2,)


def test_outputs_as_json_and_a_video_in_base64(client: InferenceServerClient) -> None:
    clip = base64.b64encode((SAMPLES / "airplane.mp4").read_bytes())
    wishes = [InferRequestedOutput("label", binary_data=False), InferRequestedOutput("score")]
    result = client.infer(MODEL, [tensor(clip, binary=False)], outputs=wishes, request_id="mine", model_version=VERSION)
    assert result.as_numpy("label")[0] == "airplane"
    assert result.as_numpy("score").dtype == np.float32
    assert result.get_response()["id"] == "mine"


def test_a_compressed_request_is_refused_and_says_why(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="Content-Encoding is 'gzip'"):
        client.infer(MODEL, [tensor(b"x" * 1000)], request_compression_algorithm="gzip")


def test_a_refusal_is_understood(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="exit must be one of"):
        client.infer(MODEL, [tensor(b"x")], parameters={"exit": "slow"})
    with pytest.raises(InferenceServerException, match="not a video"):
        client.infer(MODEL, [tensor(b"x" * 1000)])
