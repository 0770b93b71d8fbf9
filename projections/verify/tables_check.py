"""Proof that the read tables say what the log says."""

from collections.abc import Iterator

from psycopg import IsolationLevel

from rosterlog.domain.log import sessions
from rosterlog.domain.log.log_sql import HEAD
from rosterlog.projections.projector.projector import project
from rosterlog.projections.rebuild import comparison, loading, shadow
from rosterlog.projections.rebuild.comparison import Difference
from rosterlog.projections.rebuild.shadow import BATCH
from rosterlog.projections.shared_sql import CHECKPOINT, position_of
from rosterlog.projections.tables import SHADOW
from rosterlog.projections.verify import catalog
from rosterlog.projections.verify.log_check import Progress, refuse_ahead


def verify_tables(
    conninfo: str, on_progress: Progress = lambda *_: None, most: int = 1000
) -> Iterator[Difference]:
    """Derive the read tables once more and yield every row that differs, at most so many a table.

    One transaction sees the live tables at one moment, projects the log up to their checkpoint into
    shadow tables, compares, and rolls back: nothing waits for it, and nothing stays. Raises
    `CatalogAltered` where the database is not as the migrations make it, and `ShadowInUse` while a
    rebuild runs.
    """
    with sessions.connect(conninfo, shadow.LOADING, name="rosterlog verify") as connection:
        catalog.refuse_altered(connection)
        shadow.claim(connection)
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        with connection.transaction(force_rollback=True):
            upto = position_of(connection, CHECKPOINT)
            refuse_ahead(upto, position_of(connection, HEAD))
            shadow.create(connection)
            while (
                step := project(connection, SHADOW, limit=BATCH, stop=upto, folds=loading.FOLDS)
            ).events:
                on_progress(step.position, upto)
            loading.finish(connection, SHADOW)
            yield from comparison.differences(connection, most)
        shadow.release(connection)
