"""Coverage-guided fuzzing (atheris) of the parsers that read a stranger's bytes in our own code.

Each target runs in a process of its own for some seconds, from a small corpus that is made here. What counts as right
is in each target: an error of its own kind, or a result within its bounds.

    python -m tests.torture.fuzz [--seconds 30] [--only NAME] [--write VARIANT]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from benchmarks.machine import write_results

Target = Callable[[bytes], None]


def parameter_sets(data: bytes) -> None:
    """Sequence parameter sets of H.264 and HEVC."""
    from adafocus.video.bits import UnreadableError
    from adafocus.video.parameter_sets import h264_ordering, h264_sequence, hevc_ordering

    for parse in (h264_ordering, h264_sequence, hevc_ordering):
        with suppress(UnreadableError):
            parse(data)


def picture_headers(data: bytes) -> None:
    """The headers of pictures, after a decoder's configuration of any content. Nothing is an error."""
    from adafocus.video.picture_headers import header_reader

    codecs = ("h264", "hevc", "mpeg4", "mpeg2video", "vp8", "vp9")
    extradata, _, packets = data[1:].partition(b"|")
    reader = header_reader(codecs[data[0] % len(codecs)] if data else "h264", extradata)
    for packet in filter(None, packets.split(b"|")[:8]):  # those of no bytes are never read
        for marked in (False, True):
            assert reader.read(packet, marked) is not None


def mp4_index(data: bytes) -> None:
    """The index of an MP4 file."""
    from adafocus.video.errors import VideoError
    from adafocus.video.mp4_index import read_tables

    with suppress(VideoError):
        tables = read_tables(io.BytesIO(data), 10_000)
        assert tables is None or len(tables.durations) == len(tables.offsets) <= 10_000


def multipart(data: bytes) -> None:
    """A form, in pieces of different sizes."""
    from adafocus.service.decode.multipart import VideoPart
    from adafocus.service.errors import NoVideoPart

    size = 1 + (data[0] if data else 0)
    taken = bytearray()
    form = VideoPart("multipart/form-data; boundary=b", lambda piece: taken.extend(piece))
    try:
        for start in range(1, len(data), size):
            form.feed(data[start : start + size])
        form.finish()
    except NoVideoPart:
        return
    assert len(taken) <= len(data)


def tensors(data: bytes) -> None:
    """A request of the Open Inference Protocol."""
    from adafocus.service.errors import BadParameter
    from adafocus.service.schemas.tensors import parse_call

    for binary in (False, True):
        with suppress(BadParameter):
            parse_call(data, binary=binary)


def json_video(data: bytes) -> None:
    """A video in JSON: the same result however it arrives."""
    from adafocus.service.errors import BadParameter
    from adafocus.service.schemas.json_video import MAX_REST_BYTES, VideoInJson

    data = data.replace(b"~", b"A" * 1000)  # long strings, which a fuzzer would hardly find
    found = []
    for size in (len(data) or 1, 7):
        video = bytearray()
        taken = VideoInJson(video.extend)
        try:
            for start in range(0, len(data), size):
                taken.feed(data[start : start + size])
        except BadParameter:
            found.append(None)
            continue
        rest = taken.finish()
        assert len(rest) <= MAX_REST_BYTES
        found.append((rest, bytes(video), taken.found))
    assert found[0] == found[1], found


def replies(data: bytes) -> None:
    """A message of a decode worker."""
    from adafocus.service.decode.messages import ProtocolError, parse

    with suppress(ProtocolError):
        parse(data)


def manifest(data: bytes) -> None:
    """The manifest of a bundle."""
    from adafocus.bundle.store import BundleError, read_manifest

    folder = Path(os.environ["ADAFOCUS_FUZZ_FOLDER"])
    (folder / "manifest.json").write_bytes(data)
    try:
        read_manifest(folder)
    except BundleError as error:
        assert "\n" not in str(error)


def request_head(data: bytes) -> None:
    """Names and values of headers, as the gate and the access control read them."""
    from adafocus.service.http.callers import caller_at
    from adafocus.service.http.gate import classification_route
    from adafocus.service.telemetry import trace_context

    text = data.decode("latin-1")
    caller_at(text)
    trace_context.parse(text)
    classification_route("POST", text)


def corpus(name: str) -> Iterator[bytes]:
    """A few good inputs of a target."""
    from tests.conftest import ROOT
    from tests.media.clips import make_clip
    from tests.media.damage import moov_first

    if name == "multipart":
        yield b'\x40--b\r\nContent-Disposition: form-data; name="video"; filename="a"\r\n\r\nabc\r\n--b--\r\n'
        yield b'\x01--b\r\nContent-Disposition: form-data; name="x"\r\nA: b\r\n\r\n\r\n--b\r\n\r\n--b--'
    elif name in ("tensors", "json_video"):
        tensor = {"name": "video", "shape": [1], "datatype": "BYTES", "data": ["QUJD"]}
        yield json.dumps({"id": "a", "inputs": [tensor], "parameters": {"exit": "fast", "top_k": 2}}).encode()
        yield b'{"inputs":[{"name":"video","shape":[1,1],"datatype":"BYTES","data":[["~~~~~A\\/A="]]}]}'
        yield b'{"inputs":[{"name":"video","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":9}}]}'
    elif name == "replies":
        info = {"container": "mp4", "codec": "h264", "width": 4, "height": 4, "fps": 25.0, "duration_s": 1.0}
        info |= {"frames": 25, "rotation": 0}
        yield json.dumps({"type": "opened", "info": info, "frames_decoded": 1, "seconds": 0.1}).encode()
        yield b'{"type":"need","size":null}'
        yield b'{"type":"done","frames_decoded":1,"seconds":0.5,"error":{"code":"memory","detail":""}}'
    elif name == "mp4_index":
        yield make_clip(3, size=(16, 16), g="2")
        yield moov_first(make_clip(3, size=(16, 16), bf="2"))
    elif name in ("parameter_sets", "picture_headers"):
        yield bytes.fromhex("6764001facd9405005bb011000000300100000030320f1831960")[1:]
        yield bytes.fromhex("01016000000300900000030000030078a00280802d165ad24cae68080000030008000003019040")
        yield b"\x00\x01\x64\x00\x1f\xff\xe1|\x00\x00\x00\x02\x65\x88|\x00\x00\x00\x01"
        yield b"\x02\x00\x00\x01\x20|\x00\x00\x01\xb6\x10"
    elif name == "manifest":
        yield (ROOT / "bundles" / "sky" / "manifest.json").read_bytes()
    else:
        yield b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        yield b"/v2/models/x/versions/1/infer"
        yield b"2001:db8::1%eth0"


TARGETS: dict[str, Target] = {
    function.__name__: function
    for function in (
        *(parameter_sets, picture_headers, mp4_index, multipart, tensors, json_video, replies, manifest, request_head),
    )
}


def run_target(name: str, seconds: int, folder: Path) -> None:
    """Fuzz in this process, which ends with it."""
    import atheris  # type: ignore[import-not-found]

    os.environ["ADAFOCUS_FUZZ_FOLDER"] = str(folder)
    target = TARGETS[name]
    inputs = folder / "corpus"
    inputs.mkdir()
    for number, content in enumerate(corpus(name)):
        (inputs / str(number)).write_bytes(content)
    with atheris.instrument_imports(include=["video", "service", "bundle", "python_multipart"]):
        target(b"warm")
    options = [
        f"-max_total_time={seconds}",
        "-max_len=65536",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", str(inputs)], target)
    atheris.Fuzz()


def fuzz(name: str, seconds: int) -> dict[str, object]:
    """Fuzz one target in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.torture.fuzz", "--inside", name, "--folder", folder]
        done = subprocess.run([*command, "--seconds", str(seconds)], capture_output=True, text=True)
        kept = [path for path in Path(folder).iterdir() if path.name.startswith(("crash-", "timeout-", "oom-"))]
        finding = kept[0].read_bytes().hex() if kept else ""
    log = done.stdout + done.stderr
    runs = re.search(r"stat::number_of_executed_units:\s*(\d+)", log)
    covered = re.findall(r"cov: (\d+)", log)
    if done.returncode and not finding:
        print(log[-2000:])
    if finding:
        print(name, "found:", finding[:4000], log[-3000:], sep="\n")
    return {
        "target": name,
        "executions": int(runs[1]) if runs else 0,
        "coverage": int(covered[-1]) if covered else 0,
        "findings": int(bool(done.returncode)),
        "seconds": seconds,
    }


def main() -> int:
    """Fuzz, print, and say whether something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--only", choices=sorted(TARGETS), action="append")
    parser.add_argument("--inside", choices=sorted(TARGETS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", metavar="VARIANT")
    options = parser.parse_args()
    if find_spec("atheris") is None:
        print("atheris is not installed: pip install -c constraints.txt atheris")
        return 0
    if options.inside:
        run_target(options.inside, options.seconds, options.folder)
        return 0
    rows = []
    for name in options.only or TARGETS:
        rows.append(fuzz(name, options.seconds))
        print(rows[-1], flush=True)
    if options.write:
        print(write_results("fuzz", options.write, rows))
    return int(any(row["findings"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
