"""What is counted, and how it is shown: Prometheus's text format.

Counting is plain addition, for it happens at each request; a scrape reads what the parts of the server have counted.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Metric

BORDERS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Waits:
    """A histogram of waits in seconds."""

    def __init__(self) -> None:
        self.counts, self.total = [0] * (len(BORDERS) + 1), 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BORDERS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> Iterator[tuple[str, float]]:
        """(upper border, how many waits were not above it)."""
        so_far = 0
        for border, count in zip([*map(str, BORDERS), "+Inf"], self.counts, strict=True):
            so_far += count
            yield border, so_far


@dataclass(slots=True)
class Served:
    """What the server has given: answers by status, bytes, waits for the first byte by kept or not, streams now."""

    answers: Counter[int] = field(default_factory=Counter)
    bytes: int = 0
    kept: Waits = field(default_factory=Waits)
    fetched: Waits = field(default_factory=Waits)
    streams: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity: `values` by the values of its labels. Kinds: "counter", "gauge"."""

    name: str
    help: str
    kind: str
    values: Mapping[tuple[str, ...], float]
    labels: tuple[str, ...] = ()


def plain(name: str, help: str, kind: str, value: float) -> Figure:
    """A quantity without labels."""
    return Figure(name, help, kind, {(): value})


def shown(served: Served, figures: Iterable[Figure]) -> bytes:
    """Everything counted, in the text format."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    gathered = list(figures)

    class Once(Collector):
        def collect(self) -> Iterator["Metric"]:
            yield from _families([*_of(served), *gathered, _amplification(served, gathered)])
            yield _waits(served)

    registry = CollectorRegistry()
    registry.register(Once())
    return generate_latest(registry)


def _of(served: Served) -> Iterator[Figure]:
    answers: dict[tuple[str, ...], float] = {(str(status),): float(count) for status, count in served.answers.items()}
    yield Figure("playhead_answers", "Answers by status.", "counter", answers, ("status",))
    yield plain("playhead_served_bytes", "Bytes of bodies sent to clients.", "counter", served.bytes)
    yield plain("playhead_streams", "Answers that are being sent.", "gauge", served.streams)


def _amplification(served: Served, figures: Iterable[Figure]) -> Figure:
    fetched = sum(sum(figure.values.values()) for figure in figures if figure.name == "playhead_fetched_bytes")
    text = "Bytes fetched from origins for each byte served."
    return plain("playhead_amplification", text, "gauge", fetched / served.bytes if served.bytes else 0.0)


def _families(figures: Iterable[Figure]) -> Iterator["Metric"]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for figure in figures:
        made = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
        family = made(figure.name, figure.help, labels=figure.labels)
        for labels, value in figure.values.items():
            family.add_metric(labels, value)
        yield family


def _waits(served: Served) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily

    text = "Seconds from a request to the first byte of its answer."
    family = HistogramMetricFamily("playhead_first_byte_seconds", text, labels=("from",))
    for name, waits in (("kept", served.kept), ("fetched", served.fetched)):
        family.add_metric([name], buckets=list(waits.buckets()), sum_value=waits.total)
    return family
