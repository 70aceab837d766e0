"""The page's files and the samples: what is served, how it is guarded, and that nothing else is."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.e2e.tiny import write_clip
from tests.service.server import Running, make_settings, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    folder = tmp_path_factory.mktemp("page")
    samples = folder / "samples"
    (samples / "inside").mkdir(parents=True)
    write_clip(samples / "grey.mp4")
    (samples / "README.md").write_text("Made here.")
    (samples / "secret.txt").write_text("secret")
    (samples / ".hidden.mp4").write_text("nor this")
    async with serving(make_settings(folder, samples=samples)) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with running.client() as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_a_page_may_load_nothing_but_this_hosts_files(client: httpx.AsyncClient, path: str) -> None:
    page = await client.get(path)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "http://" not in page.text.replace("http://this-host", "")
    assert "https://" not in page.text


async def test_every_file_that_a_page_names_is_there(client: httpx.AsyncClient) -> None:
    for path in ("/", "/docs"):
        text = (await client.get(path)).text
        names = {part.split('"')[0] for part in text.split('"web/')[1:]}
        assert names
        for name in names:
            assert (await client.get(f"/web/{name}")).status_code == 200


async def test_every_module_that_a_script_imports_is_there(client: httpx.AsyncClient) -> None:
    seen, waiting = set[str](), {"main.js", "docs.js"}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        script = await client.get(f"/web/{name}")
        assert script.headers["content-type"].startswith("text/javascript")
        waiting |= {part.split('"')[0] for part in script.text.split('from "./')[1:]} - seen
    assert {"api.js", "stage.js"} <= seen


async def test_what_has_not_changed_is_not_sent_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/web/main.js")
    again = await client.get("/web/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = await client.get("/web/main.js", headers={"If-None-Match": '"another"'})
    assert other.status_code == 200
    head = await client.head("/")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/web/nothing.js",
        "/web/..%2fsettings.py",
        "/web/%2e%2e/settings.py",
        "/samples/secret.txt",
        "/samples/.hidden.mp4",
        "/samples/inside",
        "/samples/..%2f..%2fmanifest.json",
        "/samples/%2e%2e/tiny/manifest.json",
    ],
)
async def test_no_other_file_can_be_named(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_the_samples_and_their_notice(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/samples")).json()
    assert listed == {"clips": [{"name": "grey.mp4", "url": "samples/grey.mp4"}], "notice": "samples/README.md"}
    clip = await client.get("/samples/grey.mp4")
    assert clip.headers["content-type"] == "video/mp4"
    part = await client.get("/samples/grey.mp4", headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, clip.content[:10])
    assert (await client.get("/samples/README.md")).text == "Made here."
    answer = await client.post("/classify", content=clip.content)
    assert answer.json()["predictions"][0]["label"] == "grey"


async def test_without_samples_none_are_offered(tmp_path: Path) -> None:
    async with serving(make_settings(tmp_path)) as running, running.client() as client:
        assert (await client.get("/samples")).json() == {"clips": [], "notice": None}
