import os
import signal
import sys
from pathlib import Path

import pytest

from dyncity_sim.cosim.server_process import ServerProcess
from dyncity_sim.errors import StorageError, UnavailableError

SERVES = "import time; print('loading'); print('SERVING null on 127.0.0.1:4242', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SERVES


def process(script: str, log: Path, limit_s: float = 20.0) -> ServerProcess:
    return ServerProcess([], log, limit_s, command=(sys.executable, "-c", script))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_port_is_the_one_the_process_says_it_serves_on(tmp_path: Path) -> None:
    with process(SERVES, tmp_path / "server.log") as server:
        assert server.target == "127.0.0.1:4242"
        pid = server._process.pid
        assert is_alive(pid)
    assert not is_alive(pid)
    assert "loading\nSERVING" in (tmp_path / "server.log").read_text()


def test_the_process_is_stopped_when_the_drive_fails(tmp_path: Path) -> None:
    server = process(SERVES, tmp_path / "server.log")
    with pytest.raises(KeyboardInterrupt), server:
        raise KeyboardInterrupt
    assert server._process.returncode == -signal.SIGTERM


def test_a_process_that_ignores_the_request_to_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dyncity_sim.cosim.server_process.STOP_GRACE_S", 0.3)
    with process(STUBBORN, tmp_path / "server.log") as server:
        pass
    assert server._process.returncode == -signal.SIGKILL


def test_no_process_is_started_without_a_place_for_its_log(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    server = process(SERVES, tmp_path / "file" / "server.log")
    with pytest.raises(StorageError, match=r"server\.log cannot be written"):
        server.__enter__()
    assert not hasattr(server, "_process")


def test_a_full_disk_under_the_log_does_not_keep_a_server_from_serving() -> None:
    with process(SERVES, Path("/dev/full"), limit_s=10.0) as server:
        assert server.target == "127.0.0.1:4242"
    assert "SERVING" in server.explain("")


def test_a_process_that_dies_at_start_is_explained_by_its_last_lines(tmp_path: Path) -> None:
    server = process("print('weights not found'); raise SystemExit(3)", tmp_path / "server.log")
    with pytest.raises(UnavailableError, match=r"(?s)status 3.*server\.log.*weights not found"):
        server.__enter__()


def test_a_process_that_never_serves_is_stopped_in_bounded_time(tmp_path: Path) -> None:
    server = process("import time; time.sleep(60)", tmp_path / "server.log", limit_s=0.3)
    with pytest.raises(UnavailableError, match="did not serve within"):
        server.__enter__()
    assert server._process.returncode is not None
