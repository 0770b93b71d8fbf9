"""The service with nothing configured but a folder: it starts and stops.

A kill loses nothing that it acknowledged.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import httpx
import pytest

from tests.api.client import Api, done
from tests.api.processes import SECONDS, started
from tests.conftest import DISK, folder
from tests.domain.threads import eventually
from tests.serving import free_port


@pytest.fixture
def data() -> Iterator[Path]:
    with folder(DISK) as path:
        try:
            yield path
        finally:
            if is_running(path):
                os.kill(postmaster(path), signal.SIGINT)
                eventually(lambda: not is_running(path))


def postmaster(data: Path) -> int:
    return int((data / "postgres" / "postmaster.pid").read_text().split()[0])


def is_running(data: Path) -> bool:
    try:
        os.kill(postmaster(data), 0)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True


@contextmanager
def serve(data: Path) -> Iterator[tuple[Popen[bytes], Api]]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        started("serve", DATA_DIR=str(data), PORT=str(port)) as process,
        Api(base_url=url, timeout=30) as client,
    ):

        def answers() -> bool:
            assert process.poll() is None, "the service has ended"
            try:
                return client.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        eventually(answers)
        yield process, client


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_a_fresh_start_answers_and_a_signal_stops_the_service_and_its_database(data: Path) -> None:
    with serve(data) as (process, client):
        class_id = client.new_class()
        client.enrol(class_id)
        assert len(client.items(f"/v1/classes/{class_id}/members")) == 1
        assert is_running(data)
        process.terminate()
        assert process.wait(SECONDS) == 0
    assert not is_running(data)
    with serve(data) as (process, client):
        assert len(client.items(f"/v1/classes/{class_id}/members")) == 1
        process.send_signal(signal.SIGINT)
        process.wait(SECONDS)
    assert not is_running(data)


def test_after_the_service_was_killed_a_new_one_serves_the_same_data(data: Path) -> None:
    with serve(data) as (process, client):
        class_id = client.new_class()
        user = client.enrol(class_id)
        accepted = done(client.post("/v1/users", headers={"Prefer": "respond-async"}), 202).json()
        kill(process.pid)
        process.wait(SECONDS)
    assert is_running(data)
    with serve(data) as (process, client):
        assert [
            member["user_id"] for member in client.items(f"/v1/classes/{class_id}/members")
        ] == [user]
        assert client.read(f"/v1/users/{accepted['id']}", min_position=accepted["position"])
        process.terminate()
        assert process.wait(SECONDS) == 0
    assert not is_running(data)


def test_what_was_acknowledged_survives_the_kill_of_service_and_database(data: Path) -> None:
    with serve(data) as (process, client):
        users = set(client.new_users(20))
        accepted = [
            done(client.post("/v1/users", headers={"Prefer": "respond-async"}), 202).json()["id"]
            for _ in range(20)
        ]
        kill(postmaster(data))
        kill(process.pid)
        process.wait(SECONDS)
    with serve(data) as (process, client):
        client.read("/v1/users", min_position=client.log_head)
        assert {user["id"] for user in client.items("/v1/users")} == users | set(accepted)
        process.terminate()
        assert process.wait(SECONDS) == 0
