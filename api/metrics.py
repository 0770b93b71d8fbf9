"""What Prometheus reads: counted in this process, or asked of the database when it reads.

With several workers (`PROMETHEUS_MULTIPROC_DIR` is set then) the counts are those of all of them; the connections are those of the one that
answers.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from projections.measures import Measures

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which the library keeps its numbers in files that all workers share."""

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_EVENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 16384)
_METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_STATES = {
    "projection": ("following", "catching-up", "leaderless", "stalled"),
    "rebuild": ("idle", "running", "done", "failed", "cancelled"),
}

PoolStats = Mapping[str, Mapping[str, int]]
"""By the name of each pool, what psycopg says about it."""


class Metrics:
    """The numbers of one application."""

    def __init__(self) -> None:
        """Begin to count."""
        self._counted = CollectorRegistry()
        self._requests = Counter("rosterlog_http_requests", "Requests answered.", ["method", "route", "status"], registry=self._counted)
        self._commands = Histogram(
            "rosterlog_command_duration_seconds",
            "From a command's arrival to the beginning of its answer.",
            ["command"],
            buckets=_SECONDS,
            registry=self._counted,
        )
        self._reads = Histogram(
            "rosterlog_read_duration_seconds",
            "From a read's arrival to the beginning of its answer.",
            ["read"],
            buckets=_SECONDS,
            registry=self._counted,
        )
        self._appends = Histogram(
            "rosterlog_append_events", "Events recorded by one append to the log.", buckets=_EVENTS, registry=self._counted
        )
        # Looking a child up by its labels costs more than counting on it.
        self._by_answer: dict[tuple[str, str, int], Counter] = {}
        self._by_operation: dict[str, Histogram] = {}

    def answered(self, method: str, route: str, status: int) -> None:
        """Count a request; `route` is a template, never a path that a caller made up."""
        key = (method if method in _METHODS else "other", route, status)
        if key not in self._by_answer:
            self._by_answer[key] = self._requests.labels(*key)
        self._by_answer[key].inc()

    def took(self, operation: str, seconds: float, *, command: bool) -> None:
        """Note how long an operation took until its answer began."""
        if operation not in self._by_operation:
            self._by_operation[operation] = (self._commands if command else self._reads).labels(operation)
        self._by_operation[operation].observe(seconds)

    def appended(self, events: int) -> None:
        """Count an append."""
        self._appends.observe(events)

    def exposition(self, measures: Measures | None, pools: PoolStats) -> bytes:
        """Return everything in Prometheus' text format; `measures` is None where the database does not answer."""
        return generate_latest(self._all_counted()) + generate_latest(_Asked([*_of_database(measures), *_of_pools(pools)]))

    def _all_counted(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        if MULTIPROCESS in os.environ:
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            return registry
        ProcessCollector(registry=registry)
        registry.register(self._counted)
        return registry


class _Asked(CollectorRegistry):
    """Numbers that were asked for just now."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        super().__init__()
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def _of_database(measures: Measures | None) -> Iterator[Metric]:
    yield _one_of("rosterlog_build_info", "The release that runs.", "version", [version("rosterlog")], version("rosterlog"))
    yield GaugeMetricFamily("rosterlog_database_up", "1 where the database answered this very moment.", measures is not None)
    if measures is None:
        return
    status, delays, rebuild = measures.projection, measures.delays, measures.rebuild
    yield GaugeMetricFamily("rosterlog_head_position", "Position of the last event in the log.", status.head)
    yield GaugeMetricFamily("rosterlog_checkpoint_position", "Position that the read tables reflect.", status.checkpoint)
    yield GaugeMetricFamily("rosterlog_lag_events", "Events recorded and not yet projected.", status.lag)
    yield GaugeMetricFamily("rosterlog_lag_seconds", "How long the oldest of these waits; 0 where there is none.", delays.lag)
    yield GaugeMetricFamily("rosterlog_seconds_since_progress", "Seconds since an event was projected.", delays.since_progress)
    yield _one_of("rosterlog_projection_state", "1 for the state it is in.", "state", _STATES["projection"], status.state)
    leader = [status.leader] if status.leader else []
    yield _one_of("rosterlog_leader_info", "The process that projects; none where nobody leads.", "leader", leader, status.leader)
    yield _one_of("rosterlog_rebuild_state", "1 for the state of the newest rebuild.", "state", _STATES["rebuild"], rebuild.state)
    yield GaugeMetricFamily("rosterlog_rebuild_done_events", "Events that the newest rebuild has projected.", rebuild.done)
    yield GaugeMetricFamily("rosterlog_rebuild_total_events", "Events that the newest rebuild is about.", rebuild.total)


def _one_of(name: str, says: str, label: str, values: Iterable[str], current: str | None) -> Metric:
    metric = GaugeMetricFamily(name, says, labels=[label])
    for value in values:
        metric.add_metric([value], value == current)
    return metric


def _of_pools(pools: PoolStats) -> Iterator[Metric]:
    for name, says, key in (
        ("rosterlog_pool_connections", "Open connections to the database.", "pool_size"),
        ("rosterlog_pool_idle_connections", "Open connections that nobody uses.", "pool_available"),
        ("rosterlog_pool_waiting", "Who waits for a connection.", "requests_waiting"),
    ):
        gauge = GaugeMetricFamily(name, says, labels=["pool"])
        for pool, stats in pools.items():
            gauge.add_metric([pool], stats.get(key, 0))
        yield gauge
    for name, says, key in (
        ("rosterlog_pool_requests", "Times that somebody asked for a connection.", "requests_num"),
        ("rosterlog_pool_errors", "Times that somebody got none in time.", "requests_errors"),
    ):
        counter = CounterMetricFamily(name, says, labels=["pool"])
        for pool, stats in pools.items():
            counter.add_metric([pool], stats.get(key, 0))
        yield counter
