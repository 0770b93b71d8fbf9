"""One of several serving processes: it reads its settings from the environment, as the process that started it did."""

from fastapi import FastAPI

from api import logs
from api.app import create_app
from api.settings import Settings


def app() -> FastAPI:
    """Return the application of one worker; `rosterlog serve` set `ROSTERLOG_DATABASE_URL`, where the operator did not."""
    logs.configure()
    settings = Settings()
    database_url = settings.database_url
    assert database_url is not None
    return create_app(lambda: database_url, settings)
