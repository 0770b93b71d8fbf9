"""How events are kept: the only place of the domain that knows PostgreSQL."""
