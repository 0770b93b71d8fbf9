"""Compute a membership's id with one hash instead of three; the ids stay the same."""

import importlib

from alembic import op

revision = "0010_hash_membership_ids_once"
down_revision = "0009_create_history_indexes"

# Bit by bit, because an expression that takes a byte from the hash and puts it back changed names
# the hash twice, and PostgreSQL inlines the function only where it is one expression. RFC 9562,
# section 5.8: byte 6 begins with the bits 1000, byte 8 with 10.
BITS = {55: 1, 54: 0, 53: 0, 52: 0, 71: 1, 70: 0}


def membership_id() -> str:
    expression = "substr(sha256(uuid_send(class_id) || uuid_send(user_id)), 1, 16)"
    for bit, value in BITS.items():
        expression = f"set_bit({expression}, {bit}, {value})"
    return f"""
        CREATE OR REPLACE FUNCTION public.membership_id(class_id uuid, user_id uuid) RETURNS uuid
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        RETURN encode({expression}, 'hex')::uuid
    """


def upgrade() -> None:
    op.execute(membership_id())


def downgrade() -> None:
    # What a rebuild that crashed left behind, from this release on, uses the enum that an earlier
    # migration drops.
    op.execute("DROP TABLE IF EXISTS roster_shadow.member_events CASCADE")
    before = importlib.import_module(
        "rosterlog.migrations.versions.0005_create_classes"
    ).MEMBERSHIP_ID
    op.execute(before.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
