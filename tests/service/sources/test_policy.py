"""Which URLs are permitted, before anything is resolved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.errors import UrlNotAllowed
from adafocus.service.sources.policy import UrlPolicy

PERMITTED = [
    (("*",), "https://example.org/clip.mp4"),
    (("*",), "http://example.org:80/"),
    (("*",), "https://example.org:80/"),
    (("example.org",), "https://EXAMPLE.org/clip.mp4?signature=x"),
    (("example.org",), "https://example.org./clip.mp4"),
    (("*.example.org",), "https://media.example.org/"),
    (("*.example.org",), "https://a.b.example.org/"),
    (("other.org", "example.org:8443"), "https://example.org:8443/"),
    (("example.org:*",), "http://example.org:1234/"),
    (("127.0.0.1",), "http://127.0.0.1/"),
    (("[::1]:8080",), "http://[::1]:8080/"),
    (("bücher.example", "xn--bcher-kva.example"), "https://bücher.example/"),
]
REFUSED = [
    ((), "https://example.org/"),
    (("example.org",), "https://example.org.evil.net/"),
    (("example.org",), "https://evil-example.org/"),
    (("example.org",), "https://media.example.org/"),
    (("*.example.org",), "https://example.org/"),
    (("*.example.org",), "https://.example.org/"),
    (("*.example.org",), "https://evilexample.org/"),
    (("example.org",), "https://example.org@evil.net/"),
    (("example.org",), "https://evil.net/example.org"),
    (("example.org",), "https://evil.net?example.org"),
    (("example.org",), "https://evil.net#@example.org/"),
    (("example.org",), "https://example.org:8080/"),
    (("example.org:8080",), "https://example.org/"),
    (("*",), "http://example.org:22/"),
    (("*",), "ftp://example.org/"),
    (("*",), "file:///etc/passwd"),
    (("*",), "gopher://example.org/"),
    (("*",), "s3://bucket/key"),
    (("*",), "//example.org/"),
    (("*",), "example.org/clip.mp4"),
    (("*",), "https:///clip.mp4"),
    (("*",), "https://"),
    (("*",), ""),
    (("*",), "https://exa mple.org/"),
    (("*",), "https://example.org:99999/"),
    (("*",), "https://example.org/\r\nHost: evil.net"),
    (("*",), "http://[::1"),
    (("*",), "https://example.org/" + "a" * 9000),
]


@pytest.mark.parametrize(("hosts", "url"), PERMITTED)
def test_it_is_permitted(hosts: tuple[str, ...], url: str) -> None:
    assert UrlPolicy(hosts).check(url).scheme in ("http", "https")


@pytest.mark.parametrize(("hosts", "url"), REFUSED)
def test_it_is_refused(hosts: tuple[str, ...], url: str) -> None:
    with pytest.raises(UrlNotAllowed):
        UrlPolicy(hosts).check(url)


@given(st.text(max_size=60), st.sampled_from(["http://", "https://", "ftp://", ""]))
def test_any_text_is_a_url_or_refused(text: str, scheme: str) -> None:
    try:
        url = UrlPolicy(("*",)).check(scheme + text)
    except UrlNotAllowed as problem:
        assert len(problem.detail) < 300
    else:
        assert url.host
        assert url.scheme in ("http", "https")
        assert url.port in (None, 80, 443)


def test_the_problem_repeats_no_secret() -> None:
    for url in ("https://user:secret@evil.net/path?signature=secret", "ftp://user:secret@evil.net/secret"):
        with pytest.raises(UrlNotAllowed) as caught:
            UrlPolicy(("example.org",)).check(url)
        assert "secret" not in caught.value.detail
