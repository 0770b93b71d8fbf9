"""The network between service and PostgreSQL is cut, closed, frozen and slow."""

from collections.abc import Iterator

import pytest

from tests.faults.proxy import Proxy
from tests.faults.site import site

CUTS = 10


@pytest.fixture
def proxy(database: str) -> Iterator[Proxy]:
    with Proxy(database).running() as running:
        yield running


def test_connections_that_are_cut_are_made_again(database: str, proxy: Proxy) -> None:
    with site(database, database=proxy.conninfo) as running:
        for _ in range(CUTS):
            proxy.cut()
            running.load.flows(5)
        for _ in range(2):
            proxy.refuse()
            running.load.meets("503")
            proxy.accept()
            running.heals()


def test_a_frozen_network_delays_and_a_slow_one_is_slow_and_no_more(
    database: str, proxy: Proxy
) -> None:
    with site(database, database=proxy.conninfo) as running:
        for _ in range(2):
            proxy.freeze()
            running.load.falls_silent()
            proxy.thaw()
            running.heals()
        proxy.freeze()
        running.load.falls_silent()
        proxy.cut()
        proxy.thaw()
        running.heals()
        proxy.slow_down(0.02)
        running.load.flows()
        proxy.cut()
        running.heals()
