"""A copy of a running PostgreSQL server's files, from which another server can start."""

import pwd
from pathlib import Path
from shutil import chown

from psycopg.conninfo import conninfo_to_dict

from rosterlog.api.ops.embedded import EmbeddedPostgres


def own(path: Path, server: EmbeddedPostgres) -> None:
    """Give a path to the account that runs the servers, where it is not ours."""
    account = pwd.getpwuid(Path(f"/proc/{server.server_pid}").stat().st_uid)
    chown(path, account.pw_uid, account.pw_gid)


def base_backup(server: EmbeddedPostgres, home: Path, *options: str) -> Path:
    """Copy a server with `pg_basebackup` to where an `EmbeddedPostgres` in `home` looks for its files; return that folder."""
    copy = home / "postgres"
    copy.mkdir(mode=0o700)
    own(copy, server)
    host = conninfo_to_dict(server.conninfo("postgres"))["host"]
    where = [f"--host={host}", "--username=postgres", f"--pgdata={copy}"]
    server.run("pg_basebackup", *where, "--checkpoint=fast", "--wal-method=stream", *options)
    (copy / ".s.PGSQL.5432.lock").unlink()
    return copy


def configure(copy: Path, **settings: str) -> None:
    """Set settings of a copied server, for its next start."""
    with (copy / "postgresql.auto.conf").open("a") as configuration:
        configuration.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
