"""An end for waiting on a database that keeps the connection and says nothing.

A server's own time-outs can't be heard then, and TCP's notice only hosts that are gone. So whoever
asks sets an alarm, and all alarms are named here: when it goes off, the connection is shut down, and what waits for it fails as
with any lost connection. Cancelling takes longer: the driver first asks the server to stop, over a
connection of its own, and that is silent, too.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import AsyncConnection, Connection

READ_SECONDS = 35.0
"""Seconds that a read may take: longer than its `statement_timeout`, which we can't hear then."""
LOOK_SECONDS = 10.0
"""Seconds that a follower's look at a position may take; a switch of the tables takes a part of it."""
REPLICA_SECONDS = 3.0
"""Seconds that a replica may take to answer a look before it counts as gone."""
OPERATOR_SECONDS = 10.0
"""Seconds that an operator's question may take."""


class DatabaseSilent(psycopg.OperationalError):
    """The database said nothing for longer than its own time-outs let it work."""


@contextmanager
def heard(connection: AsyncConnection[Any], seconds: float) -> Iterator[None]:
    """Cut the connection if the block, within an event loop, takes longer.

    Raises `DatabaseSilent` then.
    """
    loop = asyncio.get_running_loop()
    alarm = loop.call_later(seconds, cut, connection.fileno())
    try:
        yield
    except psycopg.OperationalError as lost:
        if loop.time() >= alarm.when():
            raise DatabaseSilent(f"no word from the database for {seconds:.0f} s") from lost
        raise
    finally:
        alarm.cancel()


@contextmanager
def heard_by_thread(connection: Connection[Any], seconds: float) -> Iterator[None]:
    """Cut the connection if the block takes longer: it then raises what a lost connection raises."""
    alarm = threading.Timer(seconds, cut, [connection.fileno()])
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()


def cut(descriptor: int) -> None:
    """Shut down a connection for both directions; whoever waits for it sees its end."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as line:
        line.shutdown(socket.SHUT_RDWR)
