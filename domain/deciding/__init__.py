"""How a command is decided: one unit of work, the known aggregates, the writer, idempotency."""
