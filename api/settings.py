"""The settings of the service, from environment variables with the prefix ROSTERLOG_."""

from ipaddress import ip_address
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What an operator can set. Raises `pydantic.ValidationError`, which names the variable, for a value that can't be used."""

    model_config = SettingsConfigDict(env_prefix="ROSTERLOG_", frozen=True)

    database_url: str | None = Field(None, description="A PostgreSQL 15 to 18, by a direct connection; unset: the embedded one.")
    data_dir: Path = Field(Path("data"), description="Where the embedded PostgreSQL keeps its files.")
    host: str = Field("127.0.0.1", description="The address to serve on; only loopback, for as long as there is no authentication.")
    port: int = Field(8000, ge=1, le=65535, description="The port to serve on.")
    access_log: bool = Field(True, description="Whether each request leaves a line in the log.")  # noqa: FBT003

    @classmethod
    def defaults(cls) -> "Settings":
        """Return what holds where nothing is set, whatever the environment says."""
        return cls.model_construct()

    @field_validator("database_url")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        try:
            conninfo_to_dict(value or "")
        except psycopg.ProgrammingError:
            # libpq's own words repeat the string, and with it the password.
            raise ValueError("is no connection string of PostgreSQL, such as postgresql://user:password@host/database") from None
        return value or None

    @field_validator("host")
    @classmethod
    def _loopback(cls, value: str) -> str:
        if value != "localhost" and not _is_loopback(value):
            raise ValueError(f"{value} is reachable by others, and no authentication is configured: use 127.0.0.1")
        return value


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


_MASK = "***"


def masked(conninfo: str) -> str:
    """Return a connection string without its password, to be shown."""
    parts = conninfo_to_dict(conninfo)
    for secret in parts.keys() & {"password", "sslpassword"}:
        parts[secret] = _MASK
    return make_conninfo("", **{name: value for name, value in parts.items() if value is not None})
