"""The schema of a classification by URL: a JSON body instead of a video."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adafocus.service.errors import BadParameter

MAX_REQUEST_BYTES = 65_536


class UrlRequest(BaseModel):
    """The body of ``POST /classify`` with the type ``application/json``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    url: str = Field(min_length=1, max_length=8192, description="An http or https URL of a video.")


def parse_url_request(body: bytes) -> UrlRequest:
    """Parse a JSON body.

    Raises:
        BadParameter: it is not ``{"url": "…"}``. The text never repeats the URL, which may hold secrets.
    """
    try:
        return UrlRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"]) or "the body"
        raise BadParameter(f'a JSON body must be {{"url": "https://…"}}; {where}: {first["msg"][:100]}') from None
