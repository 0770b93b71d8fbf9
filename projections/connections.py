"""What every lasting connection of the projections does when it is lost."""

import random


def backoff(failures: int) -> float:
    """Return how many seconds to wait after so many failures in a row.

    It is longer each time, with jitter, and at most ten seconds.
    """
    jitter = random.uniform(0.5, 1)  # noqa: S311  # no secret
    return jitter * min(10.0, 0.2 * 2.0 ** min(failures, 10))


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, for one line of the log."""
    return str(error).partition("\n")[0]
