"""From events to rows, and from rows and the log to answers."""
