"""Create the schemas of the read tables, of a rebuild's shadow tables, and of the projector's own records."""

from alembic import op

revision = "0002_create_schemas"
down_revision = "0001_create_log"

SCHEMAS = ("roster", "roster_shadow", "projections")


def upgrade() -> None:
    for schema in SCHEMAS:
        op.execute(f"CREATE SCHEMA {schema}")


def downgrade() -> None:
    # What a rebuild that crashed left behind goes with its schema; the others are empty by now.
    op.execute("DROP SCHEMA roster_shadow CASCADE")
    op.execute("DROP SCHEMA projections")
    op.execute("DROP SCHEMA roster")
