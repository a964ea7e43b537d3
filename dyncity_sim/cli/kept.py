"""What is left of work that is stopped: chunks that are whole already."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console


class FillingFolder(Protocol):
    """A folder that takes chunk after chunk."""

    @property
    def folder(self) -> Path:
        """Where they lie."""
        ...

    @property
    def chunks(self) -> int:
        """How many are whole."""
        ...


@contextmanager
def telling_what_is_kept(filling: FillingFolder, console: Console) -> Iterator[None]:
    """Where Ctrl-C or SIGTERM ends the block, say which chunks there are all the same."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if filling.chunks:
            counted = "1 chunk is" if filling.chunks == 1 else f"{filling.chunks} chunks are"
            console.print(f"{counted} whole and kept in {filling.folder}", soft_wrap=True)
        raise
