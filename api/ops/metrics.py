"""What Prometheus reads: counted in this process, or asked of the database when it reads.

With several workers (`PROMETHEUS_MULTIPROC_DIR` is set then) the library keeps what each has
counted in a file, and the worker that answers adds them up. Each worker notes its connections and
its memory every few seconds.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from rosterlog.projections.measures import Measures

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the folder of the numbers of all workers.

The library keeps its numbers in files there.
"""

NOTE_SECONDS = 5.0
"""How often each of several workers notes its connections and its memory."""

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_EVENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 16384)
_METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_STATES = {
    "projection": ("following", "catching-up", "leaderless", "stalled"),
    "rebuild": ("idle", "running", "done", "failed", "cancelled"),
}

_POOL_GAUGES = {
    "pool_size": ("rosterlog_pool_connections", "Open connections to the database."),
    "pool_available": ("rosterlog_pool_idle_connections", "Open connections that nobody uses."),
    "requests_waiting": ("rosterlog_pool_waiting", "Who waits for a connection."),
}
_POOL_COUNTERS = {
    "requests_num": ("rosterlog_pool_requests", "Times that somebody asked for a connection."),
    "requests_errors": ("rosterlog_pool_errors", "Times that somebody got none in time."),
}
_OF_PROCESS = {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"}
"""The library's numbers about one process that can be added up over several."""

PoolStats = Mapping[str, Mapping[str, int]]
"""The numbers that psycopg keeps for each pool, by the name of the pool."""


class Replica(NamedTuple):
    """How far a replica's tables are, and for how many seconds later events wait.

    None stands for a number that a server did not tell.
    """

    position: int | None
    lag: float | None


class Metrics:
    """The numbers of one application."""

    def __init__(self) -> None:
        """Begin to count."""
        self._counted = CollectorRegistry()
        self._requests = Counter(
            "rosterlog_http_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self._counted,
        )
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
            "rosterlog_append_events",
            "Events recorded by one append to the log.",
            buckets=_EVENTS,
            registry=self._counted,
        )
        self._pool_gauges = {
            key: self._gauge(name, says, ["pool"]) for key, (name, says) in _POOL_GAUGES.items()
        }
        self._pool_counters = {
            key: Counter(*named, ["pool"], registry=self._counted)
            for key, named in _POOL_COUNTERS.items()
        }
        self._pool_counts: dict[tuple[str, str], int] = {}
        self._process_gauges: dict[str, Gauge] = {}
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
            self._by_operation[operation] = (self._commands if command else self._reads).labels(
                operation
            )
        self._by_operation[operation].observe(seconds)

    def appended(self, events: int) -> None:
        """Count an append."""
        self._appends.observe(events)

    def note(self, pools: PoolStats) -> None:
        """Note what the pools of this process say.

        With several workers, the memory and CPU time of the process, too.
        """
        for pool, stats in pools.items():
            for key, gauge in self._pool_gauges.items():
                gauge.labels(pool).set(stats.get(key, 0))
            for key, counter in self._pool_counters.items():
                count = stats.get(key, 0)
                counter.labels(pool).inc(count - self._pool_counts.get((pool, key), 0))
                self._pool_counts[pool, key] = count
        if is_one_of_several():
            for sample in (
                sample
                for family in ProcessCollector(registry=None).collect()
                for sample in family.samples
            ):
                if sample.name in _OF_PROCESS:
                    self._of_process(sample.name).set(sample.value)

    def exposition(self, measures: Measures | None, replica: Replica | None) -> bytes:
        """Return everything in Prometheus' text format.

        `measures` is None where the database does not answer, `replica` where there is none.
        """
        return generate_latest(self._all_counted()) + generate_latest(
            _Asked([*_of_database(measures), *_of_replica(replica)])
        )

    def _of_process(self, name: str) -> Gauge:
        if name not in self._process_gauges:
            self._process_gauges[name] = self._gauge(name, "Of all workers.", [])
        return self._process_gauges[name]

    def _gauge(self, name: str, says: str, labels: list[str]) -> Gauge:
        return Gauge(name, says, labels, registry=self._counted, multiprocess_mode="livesum")

    def _all_counted(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        if is_one_of_several():
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            return registry
        ProcessCollector(registry=registry)
        registry.register(self._counted)
        return registry


def is_one_of_several() -> bool:
    """Tell whether this process is one of several workers that count together."""
    return MULTIPROCESS in os.environ


def forget_the_dead() -> None:
    """Leave the gauges of workers that are gone out of the sums; their counters stay."""
    for file in Path(os.environ[MULTIPROCESS]).glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


class _Asked(CollectorRegistry):
    """Numbers that were asked for just now."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        super().__init__()
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def _of_database(measures: Measures | None) -> Iterator[Metric]:
    yield _one_of(
        "rosterlog_build_info",
        "The release that runs.",
        "version",
        [version("rosterlog")],
        version("rosterlog"),
    )
    yield GaugeMetricFamily(
        "rosterlog_database_up",
        "1 where the database answered this very moment.",
        measures is not None,
    )
    if measures is None:
        return
    status, delays, rebuild = measures.projection, measures.delays, measures.rebuild
    yield GaugeMetricFamily(
        "rosterlog_head_position", "Position of the last event in the log.", status.head
    )
    yield GaugeMetricFamily(
        "rosterlog_checkpoint_position", "Position that the read tables reflect.", status.checkpoint
    )
    yield GaugeMetricFamily(
        "rosterlog_lag_events", "Events recorded and not yet projected.", status.lag
    )
    yield GaugeMetricFamily(
        "rosterlog_lag_seconds",
        "How long the oldest of these waits; 0 where there is none.",
        delays.lag,
    )
    yield GaugeMetricFamily(
        "rosterlog_seconds_since_progress",
        "Seconds since an event was projected.",
        delays.since_progress,
    )
    yield _one_of(
        "rosterlog_projection_state",
        "1 for the state it is in.",
        "state",
        _STATES["projection"],
        status.state,
    )
    leader = [status.leader] if status.leader else []
    yield _one_of(
        "rosterlog_leader_info",
        "The process that projects; none where nobody leads.",
        "leader",
        leader,
        status.leader,
    )
    yield _one_of(
        "rosterlog_rebuild_state",
        "1 for the state of the newest rebuild.",
        "state",
        _STATES["rebuild"],
        rebuild.state,
    )
    yield GaugeMetricFamily(
        "rosterlog_rebuild_done_events",
        "Events that the newest rebuild has projected.",
        rebuild.done,
    )
    yield GaugeMetricFamily(
        "rosterlog_rebuild_total_events", "Events that the newest rebuild is about.", rebuild.total
    )


def _of_replica(replica: Replica | None) -> Iterator[Metric]:
    if replica is None:
        return
    yield GaugeMetricFamily(
        "rosterlog_replica_up",
        "1 where the replica answered this very moment.",
        replica.position is not None,
    )
    if replica.position is not None:
        yield GaugeMetricFamily(
            "rosterlog_replica_position",
            "Position that the replica's tables reflect.",
            replica.position,
        )
    if replica.lag is not None:
        says = "How long the oldest event that they don't reflect waits; 0 where there is none."
        yield GaugeMetricFamily("rosterlog_replica_lag_seconds", says, replica.lag)


def _one_of(name: str, says: str, label: str, values: Iterable[str], current: str | None) -> Metric:
    metric = GaugeMetricFamily(name, says, labels=[label])
    for value in values:
        metric.add_metric([value], value == current)
    return metric
