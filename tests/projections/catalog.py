"""What PostgreSQL's catalogue says about the tables of a schema."""

from typing import Any

from psycopg import Connection

COLUMNS = """
    SELECT relname, row_number() OVER (PARTITION BY relname ORDER BY attnum),
           attname, format_type(atttypid, atttypmod), attnotnull, collname, pg_get_expr(adbin, adrelid)
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    LEFT JOIN pg_collation ON pg_collation.oid = attcollation
    WHERE relnamespace = %s::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped ORDER BY 1, 2
"""
CONSTRAINTS = """
    SELECT relname, conname, contype::text, pg_get_constraintdef(pg_constraint.oid)
    FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid WHERE relnamespace = %s::regnamespace ORDER BY 1, 2
"""
INDEXES = (
    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = %s ORDER BY 1, 2"
)
TRIGGERS = """
    SELECT relname, tgname, tgenabled::text, pg_get_triggerdef(pg_trigger.oid)
    FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid WHERE relnamespace = %s::regnamespace AND NOT tgisinternal ORDER BY 1, 2
"""
FUNCTIONS = "SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = %s::regnamespace ORDER BY 1, 2"


def definitions(connection: Connection[Any], schema: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return columns, constraints, indexes, triggers and functions, with the schema's own name taken out."""

    def without_schema(row: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            value.replace(f"{schema}.", "") if isinstance(value, str) else value for value in row
        )

    statements = {
        "columns": COLUMNS,
        "constraints": CONSTRAINTS,
        "indexes": INDEXES,
        "triggers": TRIGGERS,
        "functions": FUNCTIONS,
    }
    return {
        kind: [without_schema(row) for row in connection.execute(statement, [schema])]
        for kind, statement in statements.items()
    }
