"""The service as a caller meets it: a real server on a free port of the loopback interface."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.types import ASGIApp

from rosterlog.api.app import create_app
from rosterlog.api.http.server import OPTIONS
from rosterlog.api.ops.embedded import EmbeddedPostgres
from rosterlog.api.settings import Settings
from tests.api.client import Api
from tests.api.identity import Provider, trusting
from tests.api.town import Town
from tests.api.town import town as made_town
from tests.conftest import TEMPLATE, fresh_database
from tests.domain.threads import eventually


@contextmanager
def serving(
    database: str,
    settings: Settings | None = None,
    wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
) -> Iterator[Api]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(wrap(create_app(lambda: database, settings)), **OPTIONS))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        eventually(lambda: server.started)
        with Api(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def api(database: str) -> Iterator[Api]:
    with serving(database) as client:
        yield client


@pytest.fixture(scope="module")
def shared(server: EmbeddedPostgres) -> Iterator[Api]:
    """Serve all tests of a module: for those that care about their own things only."""
    with fresh_database(server, TEMPLATE) as database, serving(database) as client:
        yield client


@pytest.fixture(scope="module")
def provider() -> Provider:
    return Provider()


@pytest.fixture(scope="module")
def guarded(
    server: EmbeddedPostgres, provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """Serve all tests of a module, with authentication; the client has no token."""
    keys = tmp_path_factory.mktemp("keys") / "jwks.json"
    provider.write(keys)
    with fresh_database(server, TEMPLATE) as database, serving(database, trusting(keys)) as client:
        yield client


@pytest.fixture
def town(guarded: Api, provider: Provider) -> Iterator[Town]:
    with made_town(guarded, provider) as made:
        yield made
