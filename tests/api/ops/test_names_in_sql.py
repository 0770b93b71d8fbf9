"""Every table, type and function of ours is named with its schema.

Nothing is looked up in the database's own search path.

The whole service works over connections that search `pg_catalog` alone, where a name without a
schema of ours is an error.
"""

from collections.abc import Iterator

import pytest
from psycopg.conninfo import make_conninfo

from rosterlog.migrations import commands
from tests.api.client import Api, done
from tests.api.conftest import serving
from tests.api.processes import succeeds
from tests.domain.threads import eventually

REBUILD = "/v1/projections/rebuild"


@pytest.fixture
def narrow(empty_database: str) -> str:
    """Migrate a database, and return how to connect to it.

    Over that connection only PostgreSQL's own names are found without a schema.
    """
    commands.upgrade(empty_database)
    return make_conninfo(empty_database, options="-c search_path=pg_catalog")


@pytest.fixture
def service(narrow: str) -> Iterator[Api]:
    with serving(narrow) as api:
        yield api


def test_the_whole_service_names_what_is_its_own(service: Api, narrow: str) -> None:
    group, users = service.new_group(), service.new_users(6)
    class_id = service.new_class(group)
    for user in users[:4]:
        service.enrol(class_id, user)
    changes(service, group, class_id, users)
    for path, parameters in readings(
        service, {"group_id": group, "class_id": class_id, "user_id": users[0]}
    ):
        done(service.get(path, params=parameters), 200)
    done(service.delete(f"/v1/classes/{class_id}"), 204)
    done(service.delete(f"/v1/groups/{group}"), 204)
    done(service.post(REBUILD), 202)
    eventually(lambda: service.read(REBUILD)["state"] == "done")
    succeeds("rebuild", DATABASE_URL=narrow)
    succeeds("verify", DATABASE_URL=narrow)
    succeeds("status", DATABASE_URL=narrow)


def changes(service: Api, group: str, class_id: str, users: list[str]) -> None:
    """Give every command that leaves the class."""
    path = f"/v1/classes/{class_id}"
    done(
        service.put(
            f"{path}/members",
            json={"members": [{"user_id": user, "role": "teacher"} for user in users]},
        ),
        200,
    )
    done(service.patch(f"{path}/members/{users[0]}", json={"role": "student"}), 200)
    done(service.delete(f"{path}/members/{users[1]}"), 204)
    items = [{"class_id": class_id, "user_id": users[1], "role": "student"}]
    for _ in range(2):
        done(
            service.post(
                "/v1/enrolments", json={"items": items}, headers={"Idempotency-Key": "once"}
            ),
            200,
        )
    done(
        service.patch(
            path, json={"name": "Art", "settings": {"a": 1}, "group_id": service.new_group()}
        ),
        200,
    )
    done(service.patch(path, json={"group_id": group}), 200)
    done(service.post(f"{path}/archive"), 200)
    done(service.post(f"{path}/restore"), 200)
    done(service.patch(f"/v1/groups/{group}", json={"name": "West"}), 200)
    done(service.delete(f"/v1/users/{users[2]}"), 204)


def readings(service: Api, ids: dict[str, str]) -> Iterator[tuple[str, dict[str, str | int]]]:
    """Yield every path that is read, as it is.

    And, where it can be asked so, as of a position and between two.
    """
    head = service.log_head
    for path, methods in service.read("/openapi.json")["paths"].items():
        if "get" in methods and path.startswith("/v1/"):
            filled, known = (
                path.format(**ids),
                {parameter["name"] for parameter in methods["get"].get("parameters", [])},
            )
            if "from_position" in known:
                yield filled, {"from_position": head - 8, "to_position": head}
                continue
            yield filled, {}
            if "at_position" in known:
                yield filled, {"at_position": head}
