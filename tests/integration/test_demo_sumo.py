"""The whole way: a server process, SUMO, the wire, scene, ground truth, pictures. Only the model is the null one."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from dyncity_sim.dataset.drives import open_drive
from dyncity_sim.domain.agreement import agreement_between_frames

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("libsumo") is None, reason="SUMO (extra sumo) is not installed"),
]


@pytest.mark.timeout(600)
def test_a_demo_over_sumo_drives_and_writes_consistent_data(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "dyncity_sim.cli.main", "demo", "--backend", "null", "--map", "generated:grid"]
    done = subprocess.run(
        [*command, "--chunks", "3", "--seed", "2", "--out", str(out)],
        check=False,
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert done.returncode == 0, done.stderr
    drive = open_drive(out)
    generated, recorded = drive.occupancy, drive.recorded
    assert len(generated) == 48
    assert (np.diff(generated.times_us) == 100_000).all()
    np.testing.assert_array_equal(generated.poses_world_from_ego, recorded.poses_world_from_ego)
    assert np.linalg.norm(np.diff(generated.poses_world_from_ego[:, :2, 3], axis=0), axis=1).sum() > 3.0
    assert agreement_between_frames(recorded, 0, 15) > 0.85
    chunks = json.loads((out / "occupancy" / "drive.json").read_text())["chunks"]
    assert [c["seed"] for c in chunks] == [2, 3, 4]
    assert {"index.html", "drive.png", "drive.webp", "scene", "ground_truth", "server.log"} <= {
        p.name for p in out.iterdir()
    }
