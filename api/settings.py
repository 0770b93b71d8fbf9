"""The settings of the service, from environment variables with the prefix ROSTERLOG_."""

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ALGORITHMS: Mapping[str, frozenset[str]] = {
    "RSA": frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    "EC": frozenset({"ES256", "ES384", "ES512"}),
    "OKP": frozenset({"EdDSA"}),
}
"""The algorithms that each kind of key signs with.

None of them signs and checks with one secret, so no key can be taken for a secret.
"""
Names = Annotated[tuple[str, ...], NoDecode]
"""Several names in one variable, with commas between them."""


class Settings(BaseSettings):
    """What an operator can set.

    Raises `pydantic.ValidationError`, which names the variable, for a value that can't be used.
    """

    model_config = SettingsConfigDict(env_prefix="ROSTERLOG_", frozen=True)

    database_url: str | None = Field(
        None,
        description="PostgreSQL 15 to 18, by a direct connection; where not set, the embedded one.",
    )
    write_database_url: str | None = Field(
        None, description="The same database, with the account that appends to the log."
    )
    project_database_url: str | None = Field(
        None, description="The same database, with the account that projects and rebuilds."
    )
    read_database_url: str | None = Field(
        None, description="A replica of the database, for reads of the read tables as they are."
    )
    replica_fallback: bool = Field(
        default=True,
        description="Whether the primary answers the reads of a replica that is gone.",
    )
    data_dir: Path = Field(
        Path("data"),
        description="The folder of the embedded PostgreSQL; not used where database_url is set.",
    )
    auth_keys: str | None = Field(
        None,
        description=(
            "Keys to check tokens with: a JWK set's https address or file, or a key as PEM."
        ),
    )
    auth_issuer: str | None = Field(
        None, validate_default=True, description="The issuer of the tokens: their claim iss."
    )
    auth_audience: str | None = Field(
        None, validate_default=True, description="The audience of the tokens: their claim aud."
    )
    auth_algorithms: Names = Field(
        ("RS256", "ES256", "EdDSA"), description="The algorithms that tokens may be signed with."
    )
    auth_token_types: Names = Field(
        ("at+jwt",), description="The types of token that are accepted: their header typ."
    )
    auth_scope_claim: str = Field("scope", description="The claim with a token's scopes.")
    auth_actor_claim: str = Field(
        "sub", description="The claim that names the actor: an opaque id, no e-mail address."
    )
    auth_groups_claim: str = Field(
        "roster_groups",
        description="The claim that confines a token to groups: a list of their ids.",
    )
    auth_clock_skew: int = Field(
        30, ge=0, le=300, description="Seconds that the issuer's clock may differ from ours."
    )
    metrics_open: bool = Field(False, description="Whether /metrics needs no token.")  # noqa: FBT003
    host: str = Field(
        "127.0.0.1",
        validate_default=True,
        description="The address to serve on; only loopback without authentication.",
    )
    port: int = Field(8000, ge=1, le=65535, description="The port to serve on.")
    workers: int = Field(1, ge=1, le=64, description="How many processes serve.")
    project: bool = Field(
        default=True,
        description="Whether serving processes project, too, or leave projecting to others.",
    )
    ready_strict: bool = Field(
        default=False, description="Whether /readyz answers 503 as soon as anything is degraded."
    )
    access_log: bool = Field(
        default=True, description="Whether each request leaves a line in the log."
    )

    @classmethod
    def defaults(cls) -> "Settings":
        """Return the settings where nothing is set, whatever the environment says."""
        return cls.model_construct()

    @field_validator(
        "database_url", "write_database_url", "project_database_url", "read_database_url"
    )
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        try:
            conninfo_to_dict(value or "")
        except psycopg.ProgrammingError:
            # The message of libpq repeats the string, and with it the password.
            raise ValueError(
                "is no connection string of PostgreSQL, such as "
                "postgresql://user:password@host/database"
            ) from None
        return value or None

    @field_validator("write_database_url", "project_database_url", "read_database_url")
    @classmethod
    def _beside_the_main_one(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("database_url") is None:
            raise ValueError("needs ROSTERLOG_DATABASE_URL, too")
        return value

    @field_validator("auth_keys")
    @classmethod
    def _safe_keys(cls, value: str | None) -> str | None:
        address = urlsplit(value or "")
        if address.scheme == "http" and not is_loopback(address.hostname or ""):
            raise ValueError(
                "use an https address: over http, somebody on the way could exchange the keys"
            )
        return value or None

    @field_validator("auth_issuer", "auth_audience")
    @classmethod
    def _with_keys(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and info.data.get("auth_keys") is None:
            raise ValueError("needs ROSTERLOG_AUTH_KEYS, too")
        if not value and info.data.get("auth_keys") is not None:
            raise ValueError("must be set where ROSTERLOG_AUTH_KEYS is")
        return value or None

    @field_validator("auth_algorithms", "auth_token_types", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("auth_algorithms")
    @classmethod
    def _asymmetric(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = sorted(set().union(*ALGORITHMS.values()))
        if not value or not set(value) <= set(known):
            raise ValueError(f"is a list of {', '.join(known)}")
        return value

    @field_validator("host")
    @classmethod
    def _loopback(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("auth_keys") is None and not is_loopback(value):
            raise ValueError(
                f"{value} is reachable by others, and no authentication is configured: use "
                "127.0.0.1, or set ROSTERLOG_AUTH_KEYS, "
                "ROSTERLOG_AUTH_ISSUER and ROSTERLOG_AUTH_AUDIENCE"
            )
        return value


def is_loopback(host: str) -> bool:
    """Tell whether a host's name or address can only be this machine."""
    if host == "localhost":
        return True
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
