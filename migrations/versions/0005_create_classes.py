"""Create the classes and their members."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ENUM, JSONB

revision = "0005_create_classes"
down_revision = "0004_create_users"

CLASS_ROLE = ENUM("teacher", "student", name="class_role", schema="public", create_type=False)

# RFC 9562, section 5.8: version 8 in the high bits of byte 6, variant 10 in those of byte 8.
MEMBERSHIP_ID = """
CREATE FUNCTION public.membership_id(class_id uuid, user_id uuid) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN encode(
    set_byte(
        set_byte(
            substr(sha256(uuid_send(class_id) || uuid_send(user_id)), 1, 16),
            6, (get_byte(sha256(uuid_send(class_id) || uuid_send(user_id)), 6) & 15) | 128
        ),
        8, (get_byte(sha256(uuid_send(class_id) || uuid_send(user_id)), 8) & 63) | 128
    ),
    'hex'
)::uuid
"""


def upgrade() -> None:
    op.execute("CREATE TYPE public.class_role AS ENUM ('teacher', 'student')")
    op.execute(MEMBERSHIP_ID)
    op.create_table(
        "classes",
        sa.Column("id", sa.Uuid, server_default=sa.func.gen_random_uuid(), nullable=False),
        sa.Column("group_id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(100, collation="C"), nullable=False),
        sa.Column("settings", JSONB, server_default=sa.text("'{}'"), nullable=False),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.Column(
            "updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.Column("deleted_at", sa.TIMESTAMP(timezone=True)),
        sa.Column("version", sa.BigInteger, server_default=sa.text("1"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="classes_pkey"),
        sa.ForeignKeyConstraint(
            ["group_id"], ["roster.groups.id"], name="classes_group_id_fkey", ondelete="CASCADE"
        ),
        schema="roster",
    )
    op.create_index("classes_group_id_idx", "classes", ["group_id"], schema="roster")
    op.create_index("classes_name_id_idx", "classes", ["name", "id"], schema="roster")
    op.create_table(
        "class_members",
        sa.Column("id", sa.Uuid, server_default=sa.func.gen_random_uuid(), nullable=False),
        sa.Column("class_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("role", CLASS_ROLE, nullable=False),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name="class_members_pkey"),
        sa.ForeignKeyConstraint(
            ["class_id"],
            ["roster.classes.id"],
            name="class_members_class_id_fkey",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["roster.users.id"], name="class_members_user_id_fkey", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("class_id", "user_id", name="class_members_class_id_user_id_key"),
        schema="roster",
    )
    op.create_index("class_members_class_id_idx", "class_members", ["class_id"], schema="roster")
    op.create_index("class_members_user_id_idx", "class_members", ["user_id"], schema="roster")


def downgrade() -> None:
    # What a rebuild that crashed left behind uses the enum, too.
    op.execute("DROP TABLE IF EXISTS roster_shadow.class_members")
    op.drop_table("class_members", schema="roster")
    op.drop_table("classes", schema="roster")
    op.execute("DROP FUNCTION public.membership_id(uuid, uuid)")
    op.execute("DROP TYPE public.class_role")
