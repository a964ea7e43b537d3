"""What a run changes in a server, kept in a file until it is undone: a run that is killed cannot clean up itself.

A journal lies in the user's state folder, in a file for each server and run, and not in the world (as a role name
of some marker actor could): settings and the ego's id have to survive the process, not the server, and a marker would
be one more actor that other clients see. A server that restarts makes a journal pointless, not harmful: settings are
put back only where the world still has exactly those that the dead run applied, and an ego is taken for the dead
run's only in the same episode, where number, blueprint and role name all fit. Everything else that a run spawns
carries the run's id in its role name and is found without the journal, from any machine.
"""

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from dyncity_carla.ports import ActorInfo, Settings
from dyncity_sim.errors import StorageError
from dyncity_sim.files import json_bytes, write_bytes

ROLE_PREFIX = "dyncity"
"""Role names of everything we spawn but an ego: ``dyncity:<run>:<what>``."""


@dataclass(frozen=True)
class Run:
    """One process that works with a server, by a name that tells any other process whether it still lives.

    Attributes:
        host: machine it runs on, and which of its containers.
        pid: its process.
        started: when the process started, in the kernel's clock ticks; numbers of processes are used again.
    """

    host: str
    pid: int
    started: int

    @classmethod
    def current(cls) -> Self:
        """This process."""
        return cls(_host(), os.getpid(), _start_of(os.getpid()) or 0)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The run of this id, or None where it is none."""
        parts = text.rsplit("-", 2)
        if len(parts) != 3 or not (parts[1].isdigit() and parts[2].isdigit()):
            return None
        return cls(parts[0], int(parts[1]), int(parts[2]))

    @property
    def id(self) -> str:
        """``<host>-<pid>-<started>``."""
        return f"{self.host}-{self.pid}-{self.started}"

    @property
    def is_here(self) -> bool:
        """Whether it ran on this machine."""
        return self.host == _host()

    @property
    def is_alive(self) -> bool:
        """Whether a run of this machine still exists."""
        return self.is_here and _start_of(self.pid) == self.started

    @property
    def is_dead(self) -> bool:
        """Whether a run of this machine has ended; of those of other machines nothing is known."""
        return self.is_here and not self.is_alive

    def role(self, what: str) -> str:
        """The role name of something that this run spawns."""
        return f"{ROLE_PREFIX}:{self.id}:{what}"


def run_of(role: str) -> Run | None:
    """The run that spawned an actor of this role name; None for what is not ours."""
    parts = role.split(":", 2)
    return Run.parse(parts[1]) if len(parts) == 3 and parts[0] == ROLE_PREFIX else None


@dataclass(frozen=True)
class Journal:
    """What one run owes a server.

    Attributes:
        run: which run.
        saved: the settings that it found, or None when it changed none.
        applied: the settings that it made.
        episode: the server's number of the world that it works in.
        ego: the ego that it spawned, or None.
        borrowed: somebody else's ego, whose physics it turned off, or None.
    """

    run: Run
    saved: Settings | None = None
    applied: Settings | None = None
    episode: int | None = None
    ego: ActorInfo | None = None
    borrowed: ActorInfo | None = None

    def write(self, file: Path) -> None:
        """Keep it.

        Raises:
            StorageError: the state folder cannot be written to.
        """
        write_bytes(json_bytes(asdict(self)), file)

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """The journal that an earlier run left, or None; a damaged one counts as none."""
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            egos = {name: values[name] and ActorInfo(**values[name]) for name in ("ego", "borrowed")}
            return cls(Run(**values["run"]), values["saved"], values["applied"], values["episode"], **egos)
        except (OSError, ValueError, KeyError, TypeError):
            return None


def journal_folder(address: str) -> Path:
    """Where the journals of a server lie: ``$XDG_STATE_HOME/dyncity/carla/<host>_<port>/``."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    host, _, port = address.rpartition(":")
    # Runs that call the same server by either name have to know of each other.
    host = "127.0.0.1" if host == "localhost" else host
    return state / "dyncity" / "carla" / f"{host}_{port}".replace(":", "_").replace("/", "_")


def journals_in(folder: Path) -> list[tuple[Path, Journal]]:
    """All journals that runs left or still keep, oldest name first."""
    read = ((file, Journal.read(file)) for file in sorted(folder.glob("*.json")))
    return [(file, journal) for file, journal in read if journal is not None]


def at_work(folder: Path) -> list[Journal]:
    """Journals of the other runs of this machine that work with a server now."""
    journals = (journal for _, journal in journals_in(folder))
    return [journal for journal in journals if journal.run.is_alive and journal.run != Run.current()]


def remove_journal(file: Path) -> None:
    """Forget a journal whose debts are paid.

    Raises:
        StorageError: it cannot be removed.
    """
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{file} could not be removed: {error.strerror}") from error


def _host() -> str:
    """The machine's name, and its namespace of process numbers: containers may share a name."""
    name = socket.gethostname().replace(":", "_") or "host"
    try:
        return f"{name}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return name


def _start_of(pid: int) -> int | None:
    """When a process started (field 22 of ``/proc/<pid>/stat``), or None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    # A killed process that nobody has waited for is still listed.
    return None if fields[0] in "ZX" else int(fields[19])
