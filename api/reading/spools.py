"""What was found and not yet sent: little of it in memory, the rest in files that nobody else sees."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Any, ClassVar, Self

import msgspec

from rosterlog.domain.errors import ExpensiveReadsBusy

MEMORY_BYTES = 256 * 1024
"""How much of a file stays in memory; more goes to the folder for temporary files (`TMPDIR`)."""
ALL_BYTES = 1024**3
"""How much all spools of a process hold at most, for callers who ask for much and read it slowly."""
PIECE_BYTES = 64 * 1024
"""How much is sent at once."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class File:
    """Bytes, written once and then read."""

    all_bytes: ClassVar[int] = 0
    """How much all files of the process hold."""

    def __init__(self) -> None:
        """Begin without any."""
        self._file = SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115  # closed by `close`
        self.size = 0

    def __enter__(self) -> Self:
        """Keep the bytes until the context ends."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Throw the bytes away."""
        self.close()

    def __del__(self) -> None:
        """Throw the bytes away of an answer that nobody took."""
        self.close()

    def close(self) -> None:
        """Throw the bytes away."""
        File.all_bytes -= self.size
        self.size = 0
        self._file.close()

    def write(self, text: bytes) -> None:
        """Write at the end. Raises `ExpensiveReadsBusy` where all files hold too much."""
        if File.all_bytes + len(text) > ALL_BYTES:
            raise ExpensiveReadsBusy
        File.all_bytes += len(text)
        self.size += len(text)
        self._file.write(text)

    def pieces(self) -> Iterator[bytes]:
        """Return all bytes, piece by piece."""
        self._file.seek(0)
        while piece := self._file.read(PIECE_BYTES):
            yield piece

    def lines(self) -> Iterator[bytes]:
        """Return all bytes, line by line."""
        self._file.seek(0)
        yield from self._file


class Lists:
    """The lists of one JSON object, written as they are found and read in the order of their names."""

    def __init__(self, names: Iterable[str]) -> None:
        """Begin with empty lists of these names."""
        self._files = {name: File() for name in names}

    def __enter__(self) -> Self:
        """Keep the lists until the context ends."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Throw the lists away."""
        self.close()

    @property
    def size(self) -> int:
        """How many bytes all lists have."""
        return sum(file.size for file in self._files.values())

    def close(self) -> None:
        """Throw the lists away."""
        for file in self._files.values():
            file.close()

    def add(self, found: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Write items, each with the name of its list. Raises `ExpensiveReadsBusy`."""
        for name, item in found:
            file = self._files[name]
            file.write((b"," if file.size else b"") + _encode(item))

    def pieces(self) -> Iterator[bytes]:
        """Return the object, piece by piece."""
        before = b"{"
        for name, file in self._files.items():
            yield before + _encode(name) + b":["
            yield from file.pieces()
            before = b"],"
        yield b"]}"


class Pages(File):
    """Pages of items, written as they are found, and read in the same order."""

    def add(self, page: Sequence[Mapping[str, Any]]) -> None:
        """Write a page. Raises `ExpensiveReadsBusy`."""
        self.write(_encode(page) + b"\n")

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        """Return the pages; values come as they stand in JSON."""
        yield from map(_decode, self.lines())
