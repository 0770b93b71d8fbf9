"""Order the log's text columns by bytes, and keep the record of skipped events in the log's schema.

The order of characters that an operating system gives changes with its upgrades; an index made
before then misses rows. Bytes keep theirs.
"""

from collections.abc import Iterator

from alembic import op

revision = "0012_order_by_bytes"
down_revision = "0011_create_fence"

COLUMNS = {
    "log.events": ("topic", "actor", "source"),
    "log.endings": ("topic", "role"),
    "log.idempotency_keys": ("subject", "route", "key"),
    "log.skips": ("topic", "reason", "actor", "error", "taken_back_by"),
}


def collations(name: str) -> Iterator[str]:
    # One statement a table, so that each of its indexes is made anew once. The rows themselves stay
    # as they are.
    for table, columns in COLUMNS.items():
        changes = ", ".join(
            f'ALTER COLUMN {column} TYPE text COLLATE pg_catalog."{name}"' for column in columns
        )
        yield f"ALTER TABLE {table} {changes}"


def upgrade() -> None:
    # Rows, indexes and privileges move along.
    op.execute("ALTER TABLE projections.skips SET SCHEMA log")
    for statement in collations("C"):
        op.execute(statement)


def downgrade() -> None:
    for statement in collations("default"):
        op.execute(statement)
    op.execute("ALTER TABLE log.skips SET SCHEMA projections")
