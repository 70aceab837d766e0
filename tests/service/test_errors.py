"""The errors have the documented statuses and codes."""

import pytest

from adafocus.service.errors import (
    CATALOGUE,
    Draining,
    Internal,
    Overloaded,
    Problem,
    TooLong,
    Unauthorized,
    problem_from_code,
    problem_from_video_error,
)

PRODUCT_TABLE = {
    "empty_body": 400,
    "no_video_part": 400,
    "bad_parameter": 400,
    "url_not_allowed": 400,
    "unauthorized": 401,
    "upload_timeout": 408,
    "too_large": 413,
    "unsupported_media": 415,
    "unsupported_encoding": 415,
    "undecodable": 422,
    "no_video_stream": 422,
    "too_many_pixels": 422,
    "too_long": 422,
    "source_unavailable": 424,
    "rate_limited": 429,
    "internal": 500,
    "overloaded": 503,
    "draining": 503,
    "deadline": 504,
}
FRAMEWORK = {"not_found": 404, "method_not_allowed": 405}
MACHINE = {"unavailable": 503}
MODELS = {"unknown_model": 404, "not_permitted": 403, "bad_bundle": 409}


class VideoFaultError(Exception):
    code = "too_long"


def subclasses(kind: type[Problem]) -> set[type[Problem]]:
    return {kind}.union(*(subclasses(below) for below in kind.__subclasses__()))


def test_statuses_and_codes_are_the_products() -> None:
    assert {kind.code: kind.status for kind in CATALOGUE} == PRODUCT_TABLE | FRAMEWORK | MACHINE | MODELS


def test_the_catalogue_holds_every_concrete_problem() -> None:
    leaves = {kind for kind in subclasses(Problem) if not kind.__subclasses__()}
    assert {kind.code for kind in leaves} == {kind.code for kind in CATALOGUE}


def test_a_document_has_the_members_of_rfc_9457_and_the_code() -> None:
    document = TooLong("90 s; at most 60 s are permitted", extra={"limit": 60}).document("abc")
    assert document == {
        "type": "urn:adafocus:problem:too_long",
        "title": "The video is too long",
        "status": 422,
        "detail": "90 s; at most 60 s are permitted",
        "instance": "urn:adafocus:request:abc",
        "code": "too_long",
        "limit": 60,
    }


@pytest.mark.parametrize("kind", [Overloaded, Draining])
def test_a_rejection_says_when_to_come_back_in_whole_seconds(kind: type[Overloaded | Draining]) -> None:
    assert kind("full", retry_after=2.1).headers == {"Retry-After": "3"}
    assert kind("full", retry_after=0).headers == {"Retry-After": "1"}


def test_who_lacks_a_key_is_told_the_scheme() -> None:
    assert Unauthorized().headers["WWW-Authenticate"].startswith("Bearer")


def test_video_errors_map_by_code_and_keep_their_text() -> None:
    problem = problem_from_video_error(VideoFaultError("too long by far"))
    assert isinstance(problem, TooLong)
    assert problem.detail == "too long by far"


def test_an_unknown_code_is_a_fault_of_ours_and_says_nothing() -> None:
    problem = problem_from_code("secret", "/etc/passwd")
    assert isinstance(problem, Internal)
    assert "passwd" not in problem.detail
