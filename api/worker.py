"""One of several serving processes.

It reads its settings from the environment, as the process that started it did.
"""

import multiprocessing
import os
import signal
import threading

from fastapi import FastAPI

from rosterlog.api.app import create_app
from rosterlog.api.http.server import spare_the_collector
from rosterlog.api.ops import logs
from rosterlog.api.ops.metrics import forget_the_dead
from rosterlog.api.settings import Settings


def app() -> FastAPI:
    """Return the application of one worker.

    `rosterlog serve` has set `ROSTERLOG_DATABASE_URL` where the operator did not.
    """
    logs.configure()
    spare_the_collector()
    forget_the_dead()
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    settings = Settings()
    database_url = settings.database_url
    assert database_url is not None
    return create_app(lambda: database_url, settings)


def _end_with_parent() -> None:
    """End in order when the process that started us is gone.

    A worker left behind would keep the port.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
