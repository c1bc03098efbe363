"""Metrics in Prometheus' text format. Only who answers `/metrics` needs the library: with its server it takes 2 MB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from firehose.observe import METRICS, Sample


class _Samples(Collector):
    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = list(samples)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for name, labels, value in self._samples:
            if name not in families:
                described = METRICS[name]
                family = CounterMetricFamily if described.kind == "counter" else GaugeMetricFamily
                families[name] = family(name, described.says, labels=described.labels)
            families[name].add_metric(labels, value)
        yield from families.values()


def render(samples: Iterable[Sample]) -> bytes:
    """The samples in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Samples(samples))
    return generate_latest(registry)
