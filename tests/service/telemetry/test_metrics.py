"""The metrics have the documented names, types and labels."""

from collections.abc import Iterator

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from adafocus.bundle.exit_rule import ExitReason
from adafocus.service.engine.stage_times import StageTimes
from adafocus.service.telemetry.definitions import CATALOGUE
from adafocus.service.telemetry.metrics import Answered, Metrics

PRODUCT_CATALOGUE = {
    "adafocus_requests_total": ("counter", {"outcome": 6}),
    "adafocus_request_duration_seconds": ("histogram", {}),
    "adafocus_stage_duration_seconds": ("histogram", {"stage": 5}),
    "adafocus_request_flops": ("histogram", {}),
    "adafocus_flops_total": ("counter", {"component": 2}),
    "adafocus_flops_full_total": ("counter", {}),
    "adafocus_exit_step": ("histogram", {"reason": 6}),
    "adafocus_exits_total": ("counter", {"component": 2}),
    "adafocus_degraded_total": ("counter", {}),
    "adafocus_shadow_total": ("counter", {"answer": 2}),
    "adafocus_shadow_evidence": ("gauge", {}),
    "adafocus_quality_level": ("gauge", {}),
    "adafocus_frames_decoded_total": ("counter", {}),
    "adafocus_decode_cpu_seconds_total": ("counter", {}),
    "adafocus_frames_used_total": ("counter", {}),
    "adafocus_batch_size": ("histogram", {"component": 2}),
    "adafocus_queue_depth": ("gauge", {}),
    "adafocus_slots_active": ("gauge", {}),
    "adafocus_slots": ("gauge", {}),
    "adafocus_rejections_total": ("counter", {"code": 22}),
    "adafocus_decode_workers": ("gauge", {}),
}


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    text = metrics.render("")[0].decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse_text(text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def expected_series(steps: int) -> Iterator[tuple[str, ...]]:
    for metric in CATALOGUE:
        for values in metric.series(steps):
            if metric.kind == "histogram":
                yield (metric.name + "_count", *values)
                yield (metric.name + "_sum", *values)
            else:
                yield (metric.name, *values)


def test_the_catalogue_is_the_products() -> None:
    found = {metric.name: (metric.kind, {name: len(v) for name, v in metric.labels.items()}) for metric in CATALOGUE}
    assert found.items() >= PRODUCT_CATALOGUE.items()
    assert all(name.startswith("adafocus_") for name in found)
    assert len(found) == len(CATALOGUE)


def test_every_series_is_there_from_the_start_and_zero() -> None:
    found = samples(Metrics(steps=4))
    assert set(found) == set(expected_series(steps=4))
    assert {value for key, value in found.items() if "_process_" not in key[0]} == {0.0}


def test_one_bucket_per_step() -> None:
    text = Metrics(steps=3).render("")[0].decode()
    buckets = [
        line for line in text.splitlines() if line.startswith("adafocus_exit_step_bucket") and "confident" in line
    ]
    assert [line.split('le="')[1].split('"')[0] for line in buckets] == ["1.0", "2.0", "3.0", "+Inf"]


def test_an_answer_is_counted_where_it_cost() -> None:
    metrics = Metrics(steps=4)
    metrics.video_answered(
        Answered(
            times=StageTimes(total=1.25, upload=0.5, queue=0.0, decode=0.25, glance=0.125, focus=0.125),
            glance_flops=2_000,
            focus_flops=8_000,
            flops_full=20_000,
            step=2,
            reason="confident",
            component="glance",
            frames_decoded=30,
            frames_used=2,
            decode_cpu_seconds=0.375,
            degraded=True,
            exit_shares=None,
        )
    )
    metrics.request_finished("ok", 1.0, uploaded_bytes=500)
    found = samples(metrics)
    assert found["adafocus_requests_total", "ok"] == 1
    assert found["adafocus_request_flops_sum",] == 10_000
    assert found["adafocus_flops_total", "glance"] == 2_000
    assert found["adafocus_flops_total", "focus"] == 8_000
    assert found["adafocus_flops_full_total",] == 20_000
    assert found["adafocus_exit_step_sum", "confident"] == 2
    assert found["adafocus_exits_total", "glance"] == 1
    assert found["adafocus_degraded_total",] == 1
    assert found["adafocus_frames_decoded_total",] == 30
    assert found["adafocus_frames_used_total",] == 2
    assert found["adafocus_decode_cpu_seconds_total",] == 0.375
    assert found["adafocus_stage_duration_seconds_sum", "decode"] == 0.25
    assert found["adafocus_processing_duration_seconds_sum",] == 0.75
    assert found["adafocus_upload_bytes_total",] == 500


def left_at(step: int, reason: ExitReason, exit_shares: tuple[float, ...] | None) -> Answered:
    return Answered(StageTimes(), 1, 1, 8, step, reason, "focus", 1, 1, 0.0, False, exit_shares)


def expected_exits(metrics: Metrics) -> list[float]:
    found = samples(metrics)
    return [found["adafocus_exits_expected_total", str(step)] for step in range(1, 5)]


def test_expected_exits_are_the_calibrations_cumulated() -> None:
    metrics = Metrics(steps=4)
    metrics.video_answered(left_at(3, "confident", (0.5, 0.25, 0.0, 0.25)))
    metrics.video_answered(left_at(4, "all_steps", (0.0, 0.0, 0.0, 1.0)))
    assert expected_exits(metrics) == [0.5, 0.75, 0.75, 2.0]


def test_what_was_cut_short_says_nothing_of_the_calibration() -> None:
    metrics = Metrics(steps=4)
    for reason in ("max_gflops", "deadline", "end_of_video"):
        metrics.video_answered(left_at(1, reason, (0.0, 0.0, 0.0, 1.0)))
    assert expected_exits(metrics) == [0.0, 0.0, 0.0, 0.0]


def test_without_a_calibration_no_drift_is_made_up() -> None:
    metrics = Metrics(steps=4)
    metrics.video_answered(left_at(2, "confident", None))
    assert expected_exits(metrics) == [0.0, 1.0, 1.0, 1.0]


def test_http_is_counted_by_template_and_class_of_status() -> None:
    metrics = Metrics(steps=4)
    metrics.http_answered("/classify", 200, 0.1)
    metrics.http_answered("/somewhere/else", 404, 0.1)
    metrics.http_answered(None, 405, 0.1)
    metrics.http_answered("/classify", 0, 0.1)
    found = samples(metrics)
    assert found["adafocus_http_requests_total", "/classify", "2xx"] == 1
    assert found["adafocus_http_requests_total", "/classify", "4xx"] == 1
    assert found["adafocus_http_requests_total", "other", "4xx"] == 2
    assert found["adafocus_http_request_duration_seconds_count", "other"] == 2


def test_an_exemplar_leads_to_the_request_in_openmetrics_alone() -> None:
    metrics = Metrics(steps=4)
    metrics.request_finished("ok", 0.1, exemplar={"request_id": "abc"})
    families = parse_openmetrics(metrics.render("application/openmetrics-text")[0].decode())
    exemplars = [sample.exemplar for family in families for sample in family.samples if sample.exemplar]
    assert [exemplar.labels for exemplar in exemplars] == [{"request_id": "abc"}]
    assert "request_id" not in metrics.render("")[0].decode()


def test_gauges_and_the_rest() -> None:
    metrics = Metrics(steps=4)
    metrics.slots(8)
    metrics.slots_active(3)
    metrics.queue_depth(2)
    metrics.decode_workers(4)
    metrics.batch_ran("glance", 3, 0.01)
    metrics.queue_limit(64)
    metrics.ready(True)
    metrics.problem_answered("too_large")
    metrics.model_loaded("toy", "1.0", "fake", "fp32")
    found = samples(metrics)
    assert found["adafocus_slots",] == 8
    assert found["adafocus_slots_active",] == 3
    assert found["adafocus_queue_depth",] == 2
    assert found["adafocus_decode_workers",] == 4
    assert found["adafocus_batch_size_sum", "glance"] == 3
    assert found["adafocus_device_seconds_total", "glance"] == 0.01
    assert found["adafocus_queue_limit",] == 64
    assert found["adafocus_ready",] == 1
    assert found["adafocus_rejections_total", "too_large"] == 1
    assert [key for key in found if key[0] == "adafocus_model_info"]


def test_openmetrics_when_asked_for() -> None:
    metrics = Metrics(steps=4)
    text, media_type = metrics.render("application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert media_type.startswith("application/openmetrics-text; version=1.0.0")
    assert len(list(parse_openmetrics(text.decode()))) == len(CATALOGUE)
    assert metrics.render("text/html")[1].startswith("text/plain; version=0.0.4")


def test_two_applications_share_nothing() -> None:
    first, second = Metrics(steps=2), Metrics(steps=2)
    first.request_finished("ok", 0.1)
    assert samples(second)["adafocus_requests_total", "ok"] == 0


def test_a_model_that_is_added_later_has_series_and_the_others_keep_their_counts() -> None:
    metrics = Metrics(steps=4)
    metrics.model_added("sky")
    metrics.request_finished("ok", 0.02)
    metrics.model_request_finished("sky", "ok")
    metrics.model_version_changed("sky", "loaded")
    before = samples(metrics)
    metrics.model_added("birds")
    metrics.model_added("birds")
    after = samples(metrics)
    assert {key: after[key] for key in before if "_process_" not in key[0]} == {
        key: value for key, value in before.items() if "_process_" not in key[0]
    }
    assert {key for key in after if "birds" in key} == {
        tuple("birds" if part == "sky" else part for part in key) for key in before if "sky" in key
    }
    metrics.model_request_finished("birds", "error")
    metrics.model_compared("birds", agrees=False)
    counted = samples(metrics)
    assert counted["adafocus_model_requests_total", "birds", "error"] == 1
    assert counted["adafocus_model_shadow_total", "different", "birds"] == 1
    assert counted["adafocus_model_requests_total", "sky", "ok"] == 1
    assert counted["adafocus_requests_total", "ok"] == 1
    assert counted["adafocus_request_duration_seconds_sum",] == 0.02


def test_a_model_of_fewer_steps_is_expected_to_be_over_at_its_last() -> None:
    metrics = Metrics(steps=4)
    metrics.video_answered(left_at(2, "all_steps", (0.25, 0.75)))
    metrics.video_answered(left_at(2, "all_steps", None))
    assert expected_exits(metrics) == [0.25, 2.0, 2.0, 2.0]
