"""A disk that is full: a small file system of the test's own, or a limit on the size of the server's files where none can be mounted."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from tests.conftest import DISK, folder

SIZE_MIB = 200
"""Enough for a fresh database and its write-ahead log several times over, and quickly filled."""


class Disk(Protocol):
    """Where a server has its files."""

    home: Path

    def fill(self, server_pid: int) -> None:
        """Let nothing more be written."""

    def free(self, server_pid: int) -> None:
        """Make room again."""


class SmallDisk:
    """A file system in memory that something else fills up: PostgreSQL finds no space left."""

    def __init__(self, home: Path) -> None:
        """Fill the file system that is mounted at `home`."""
        self.home = home
        self._ballast = home / "ballast"

    @classmethod
    @contextmanager
    def made(cls) -> Iterator["SmallDisk"]:
        with folder() as path:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m,mode=755", "tmpfs", path],
                check=True,
                capture_output=True,
            )
            try:
                yield cls(path)
            finally:
                subprocess.run(["umount", path], check=True)

    def fill(self, server_pid: int) -> None:
        with suppress(OSError), self._ballast.open("ab", buffering=0) as ballast:
            while ballast.write(bytes(4096)):
                pass

    def free(self, server_pid: int) -> None:
        self._ballast.unlink()


class LimitedFiles:
    """A limit under which none of the server's files may be written: not even the write-ahead log, so that the server gives up."""

    def __init__(self, home: Path) -> None:
        """Limit the files of the server that runs in `home`."""
        self.home = home

    @classmethod
    @contextmanager
    def made(cls) -> Iterator["LimitedFiles"]:
        with folder(DISK) as path:
            yield cls(path)

    def fill(self, server_pid: int) -> None:
        self._limit(server_pid, "0:")

    def free(self, server_pid: int) -> None:
        self._limit(server_pid, "unlimited:")

    def _limit(self, server_pid: int, soft: str) -> None:
        # As the server's own account: not even root may do this in every container. Processes that
        # end meanwhile need no limit.
        owner = (self.home / "postgres").resolve().stat()
        groups: list[int] | None = [] if os.geteuid() == 0 else None
        for pid in (server_pid, *_children(server_pid)):
            command = ["prlimit", f"--pid={pid}", f"--fsize={soft}"]
            subprocess.run(
                command, user=owner.st_uid, group=owner.st_gid, extra_groups=groups, check=False
            )


def _children(parent: int) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with suppress(OSError):
                if int((process / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    found.append(int(process.name))
    return found


def ways() -> list[type[SmallDisk] | type[LimitedFiles]]:
    """Return the ways that there are here: who may not mount has one."""
    if os.geteuid() != 0:
        return [LimitedFiles]
    try:
        with SmallDisk.made():
            return [SmallDisk, LimitedFiles]
    except subprocess.CalledProcessError:
        return [LimitedFiles]
