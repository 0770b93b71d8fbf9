"""A made-up district, small enough to read; `rosterlog demo` loads it."""
