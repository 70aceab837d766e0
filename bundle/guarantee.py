"""The guarantee of a certified operating point, and the test that it rests on.

The promise holds for videos drawn like the tested ones. It speaks of the fp32 model that was tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

Risk = Literal["answer_changed", "right_answer_lost"]
"""What counts as a failure of an exit: an answer other than ``full``'s, or a wrong one where ``full``'s is right."""

METHOD = "learn-then-test: fixed sequence, exact binomial"

_Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class Guarantee:
    """At most the share ``epsilon`` of videos fails, with this confidence.

    Attributes:
        risk: what a failure is.
        epsilon: upper bound of the share of videos that fail.
        confidence: probability, over the draw of the tested clips, that the promise is true; of each point by itself.
        clips: independent clips that it was tested on; none of them chose the thresholds.
        failures: how many of them failed.
        method: of the test.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    risk: Risk
    epsilon: _Share
    confidence: _Share
    clips: Annotated[int, Field(ge=1)]
    failures: Annotated[int, Field(ge=0)]
    method: str = METHOD
