"""An answer of several lists that are found all at once: little memory, the rest in files that nobody else sees."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Any, Self

import msgspec

MEMORY_BYTES = 256 * 1024
"""How much of a list stays in memory; more goes to the folder for temporary files (`TMPDIR`)."""
PIECE_BYTES = 64 * 1024
"""How much is sent at once."""

_encode = msgspec.json.Encoder().encode


class Spool:
    """The lists of one JSON object, written as they are found and read in the order of their names."""

    def __init__(self, names: Iterable[str]) -> None:
        """Begin with empty lists of these names."""
        self._closing = ExitStack()
        files = {name: SpooledTemporaryFile(MEMORY_BYTES) for name in names}  # noqa: SIM115  # closed by `close`
        self._files = {name: self._closing.enter_context(file) for name, file in files.items()}
        self.size = 0

    def __enter__(self) -> Self:
        """Keep the lists until the context ends."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        """Throw the lists away."""
        self.close()

    def close(self) -> None:
        """Throw the lists away."""
        self._closing.close()

    def add(self, found: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Write items, each with the name of its list."""
        for name, item in found:
            file = self._files[name]
            text = (b"," if file.tell() else b"") + _encode(item)
            file.write(text)
            self.size += len(text)

    def pieces(self) -> Iterator[bytes]:
        """Return the object, piece by piece."""
        before = b"{"
        for name, file in self._files.items():
            yield before + _encode(name) + b":["
            file.seek(0)
            while piece := file.read(PIECE_BYTES):
                yield piece
            before = b"],"
        yield b"]}"
