"""Create the users."""

import sqlalchemy as sa
from alembic import op

revision = "0004_create_users"
down_revision = "0003_create_groups"


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="users_pkey"),
        schema="roster",
    )


def downgrade() -> None:
    op.drop_table("users", schema="roster")
