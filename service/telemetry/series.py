"""The values of all metrics in one block of memory, with a row for each process of the service that counts.

Label sets are closed, so every series has its place from the start: counting is an addition to a number. Processes that
share the block each write a row of their own and read all of them, so whichever is asked tells of the whole service.
"""

from __future__ import annotations

import mmap
import os
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from prometheus_client.core import (
    CounterMetricFamily,
    Exemplar,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.utils import floatToGoString

from adafocus.service.telemetry.definitions import Metric

Key = tuple[str, ...]
"""Name of a metric, then the values of its labels."""

_ITEM_BYTES = 8


@dataclass(frozen=True, slots=True)
class Series:
    """Where the values of one series lie in a row.

    A counter or a gauge has one value. A histogram has the number of values in each bucket, of those above the last
    bound, and their sum.
    """

    first: int
    bounds: tuple[float, ...] = ()


class Layout:
    """The places of all series.

    Args:
        metrics: those that are counted here.
        steps: of the bundle that has most.
        models: their names.
    """

    def __init__(self, metrics: Iterable[Metric], steps: int, models: Sequence[str] = ()) -> None:
        self.metrics = tuple(metrics)
        self.models = tuple(models)
        self.series: dict[Key, Series] = {}
        self._steps = steps
        self.width = 0
        for metric in self.metrics:
            bounds = self.bounds(metric)
            for values in metric.series(steps, self.models):
                self.series[metric.name, *values] = Series(self.width, bounds)
                self.width += len(bounds) + 2 if metric.kind == "histogram" else 1

    def bounds(self, metric: Metric) -> tuple[float, ...]:
        """Upper bounds of a histogram's buckets; none for other kinds."""
        if metric.kind != "histogram":
            return ()
        return metric.buckets or tuple(float(step) for step in range(1, self._steps + 1))

    def keys(self, metric: Metric) -> Iterator[Key]:
        """The series of a metric."""
        return ((metric.name, *values) for values in metric.series(self._steps, self.models))

    def with_model(self, name: str) -> Layout:
        """The layout with the series of one more model."""
        return Layout(self.metrics, self._steps, (*self.models, name))

    def gauges(self) -> Iterator[Series]:
        """Every gauge that is true of a process only while it lives; evidence stays true."""
        living = (metric for metric in self.metrics if metric.kind == "gauge" and metric.combined != "product")
        return (self.series[key] for metric in living for key in self.keys(metric))


class SeriesMemory:
    """The rows of all processes.

    Args:
        layout: of a row.
        rows: how many processes count.
        fd: of memory that `share` made; None: memory of this process alone.
    """

    def __init__(self, layout: Layout, rows: int = 1, fd: int | None = None) -> None:
        self._memory = mmap.mmap(-1 if fd is None else fd, max(1, rows * layout.width) * _ITEM_BYTES)
        self.layout = layout
        self.values: npt.NDArray[np.float64] = np.frombuffer(
            self._memory, dtype=np.float64, count=rows * layout.width
        ).reshape(rows, layout.width)

    @staticmethod
    def share(layout: Layout, rows: int) -> int:
        """Make memory that other processes may map; returns its descriptor, which they inherit.

        Raises:
            OSError: there is none.
        """
        fd = os.memfd_create("adafocus-metrics", os.MFD_CLOEXEC)
        os.ftruncate(fd, max(1, rows * layout.width) * _ITEM_BYTES)
        return fd

    def grown(self, layout: Layout) -> SeriesMemory:
        """New memory of this process alone for more series, with the values that there are."""
        memory = SeriesMemory(layout, len(self.values))
        for key, series in self.layout.series.items():
            width = len(series.bounds) + 2 if series.bounds else 1
            first, new = series.first, layout.series[key].first
            memory.values[:, new : new + width] = self.values[:, first : first + width]
        return memory

    def row(self, number: int) -> memoryview[float]:
        """The values of one process, which it alone writes, and from one thread."""
        return memoryview(self.values[number])

    def end(self, number: int) -> None:
        """A process has ended: what it counted and its evidence stay, and its other gauges become 0."""
        for series in self.layout.gauges():
            self.values[number, series.first] = 0.0


class Counts:
    """One process's row: the operations that metrics are made of."""

    def __init__(self, memory: SeriesMemory, row: int = 0) -> None:
        self._number = row
        self._use(memory)
        self._exemplars: dict[Key, dict[int, Exemplar]] = {}

    def _use(self, memory: SeriesMemory) -> None:
        self._memory = memory
        self._row = memory.row(self._number)
        self._values = memory.values[self._number]
        self._series = memory.layout.series

    def add_model(self, name: str) -> None:
        """Make room for the series of a model, if there is none. Not where several processes count together."""
        layout = self._memory.layout
        if name not in layout.models:
            self._use(self._memory.grown(layout.with_model(name)))

    def knows_model(self, name: str) -> bool:
        """Whether there are series of a model."""
        return name in self._memory.layout.models

    def add(self, key: Key, amount: float = 1.0) -> None:
        """Add to a counter."""
        self._row[self._series[key].first] += amount

    def observe_each(self, values: Sequence[tuple[Key, float]]) -> None:
        """Add a value to each of several histograms."""
        row, known = self._row, self._series
        for key, value in values:
            series = known[key]
            first, bounds = series.first, series.bounds
            row[first + bisect_left(bounds, value)] += 1.0
            row[first + len(bounds) + 1] += value

    def add_each(self, amounts: Sequence[tuple[Key, float]]) -> None:
        """Add to each of several counters."""
        row, known = self._row, self._series
        for key, amount in amounts:
            row[known[key].first] += amount

    def add_row(self, first: Key, amounts: npt.NDArray[np.float64]) -> None:
        """Add to the counters of one metric from ``first`` on, which lie side by side."""
        place = self._series[first].first
        self._values[place : place + len(amounts)] += amounts

    def own(self, key: Key) -> float:
        """The value of a counter or a gauge in this process's row, which an earlier process may have written."""
        return self._row[self._series[key].first]

    def set(self, key: Key, value: float) -> None:
        """Set a gauge."""
        self._row[self._series[key].first] = value

    def observe(self, key: Key, value: float, exemplar: Mapping[str, str] | None = None) -> None:
        """Add a value to a histogram; the exemplar is shown with its bucket until the next one there."""
        series = self._series[key]
        first, bounds = series.first, series.bounds
        bucket, row = bisect_left(bounds, value), self._row
        row[first + bucket] += 1.0
        row[first + len(bounds) + 1] += value
        if exemplar:
            self._exemplars.setdefault(key, {})[bucket] = Exemplar(dict(exemplar), value, time.time())

    def collect(self) -> Iterator[Family]:
        """The metrics of all processes, for a registry of ``prometheus_client``."""
        values = self._memory.values
        sums = values.sum(axis=0).tolist()
        combined = {"sum": sums, "largest": values.max(axis=0).tolist(), "product": _products(values).tolist()}
        layout = self._memory.layout
        for metric in layout.metrics:
            names = tuple(metric.labels)
            if metric.kind == "counter":
                counter = CounterMetricFamily(metric.name, metric.help, labels=names)
                for name, *labels in layout.keys(metric):
                    counter.add_metric(labels, sums[self._series[name, *labels].first])
                yield counter
            elif metric.kind == "gauge":
                gauge = GaugeMetricFamily(metric.name, metric.help, labels=names)
                for name, *labels in layout.keys(metric):
                    gauge.add_metric(labels, combined[metric.combined][self._series[name, *labels].first])
                yield gauge
            else:
                yield self._histogram(metric, names, sums)

    def _histogram(self, metric: Metric, names: Sequence[str], sums: Sequence[float]) -> Family:
        family = HistogramMetricFamily(metric.name, metric.help, labels=names)
        for key in self._memory.layout.keys(metric):
            series, exemplars = self._series[key], self._exemplars.get(key, {})
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
            total = 0.0
            for number, bound in enumerate((*series.bounds, float("inf"))):
                total += sums[series.first + number]
                name: str = floatToGoString(bound)  # type: ignore[no-untyped-call] # it has no types
                exemplar = exemplars.get(number)
                buckets.append((name, total) if exemplar is None else (name, total, exemplar))
            family.add_metric(key[1:], buckets, sums[series.first + len(series.bounds) + 1])
        return family


def _products(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The product over the processes that have a value yet [rows, width] -> [width]; 0 where none has."""
    there = values > 0
    with np.errstate(over="ignore"):
        return np.asarray(np.where(there, values, 1.0).prod(axis=0) * there.any(axis=0))
