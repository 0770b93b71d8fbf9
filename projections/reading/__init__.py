"""SELECTs: of the tables as they are now, and of the log as of a position."""
