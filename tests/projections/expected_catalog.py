"""Make `projections/catalog.json` anew: `.venv/bin/python -m tests.projections.expected_catalog`, after a new migration."""

import json

from rosterlog.api.ops.embedded import EmbeddedPostgres
from rosterlog.domain.log import sessions
from rosterlog.migrations import commands
from rosterlog.projections.verify import catalog
from rosterlog.projections.verify.catalog import Catalog
from tests.conftest import folder


def catalog_of(conninfo: str) -> Catalog:
    """Return what there is in a database, without the kinds of which there is nothing."""
    with sessions.connect(conninfo) as connection:
        return {kind: objects for kind, objects in catalog.read(connection).items() if objects}


def main() -> None:
    with folder() as data:
        postgres = EmbeddedPostgres(data)
        conninfo = postgres.start()
        try:
            commands.upgrade(conninfo)
            made = json.dumps(catalog_of(conninfo), indent=1, sort_keys=True, ensure_ascii=False)
        finally:
            postgres.stop()
    catalog.EXPECTED.write_text(made + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
