"""The database's schemas and tables, as numbered Alembic migrations."""
