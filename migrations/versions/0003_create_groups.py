"""Create the groups."""

import sqlalchemy as sa
from alembic import op

revision = "0003_create_groups"
down_revision = "0002_create_schemas"


def upgrade() -> None:
    op.create_table(
        "groups",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(100, collation="C"), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="groups_pkey"),
        schema="roster",
    )
    op.create_index("groups_name_id_idx", "groups", ["name", "id"], schema="roster")


def downgrade() -> None:
    op.drop_table("groups", schema="roster")
