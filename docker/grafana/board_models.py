"""The row of models, for a service with several of them; with one it repeats what the rows above say."""

from __future__ import annotations

from panels import Panel, Query, Row
from promql import WINDOW, rate

MODELS = Row(
    "Models",
    [
        Panel(
            "Models ready",
            "Models that can answer, and all that this service knows.",
            "short",
            [Query("sum(adafocus_model_ready)", "ready"), Query("count(adafocus_model_ready)", "all")],
            kind="stat",
            width=6,
        ),
        Panel(
            "Answers by model",
            "Answered requests per second.",
            "reqps",
            [Query(rate('adafocus_model_requests_total{outcome="ok"}', "model"), "{{model}}")],
            width=6,
            stacked=True,
        ),
        Panel(
            "Not answered, by model",
            "Requests per second that a model began and that ended in another way than with an answer.",
            "reqps",
            [
                Query(
                    f'sum by (model, outcome) (rate(adafocus_model_requests_total{{outcome!="ok"}}[{WINDOW}]))',
                    "{{model}} {{outcome}}",
                )
            ],
            width=6,
        ),
        Panel(
            "Compute by model",
            "Share of the compute of all steps that the answers needed. 100 % means that no exit was early.",
            "percentunit",
            [
                Query(
                    f"{rate('adafocus_model_flops_total', 'model')} / "
                    f"{rate('adafocus_model_flops_full_total', 'model')}",
                    "{{model}}",
                )
            ],
            width=6,
        ),
        Panel(
            "Agreement with the shadow",
            "Videos per minute to which a model and its shadow (setting shadow) gave the same or different answers.",
            "cpm",
            [
                Query(
                    f"60 * sum by (model, answer) (rate(adafocus_model_shadow_total[{WINDOW}]))", "{{model}} {{answer}}"
                )
            ],
            width=6,
            stacked=True,
        ),
        Panel(
            "Versions loaded, unloaded and refused",
            "In the last hour. A refused version is a bundle that cannot be used; the log says why.",
            "short",
            [Query("sum by (model, outcome) (increase(adafocus_model_versions_total[1h]))", "{{model}} {{outcome}}")],
            width=6,
        ),
    ],
)
