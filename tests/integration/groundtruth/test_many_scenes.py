"""A nuScenes data set of three drives, read back by nuscenes-devkit in an environment of its own."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyncity_sim.dataset.drives import ListedDrive, LoadedDrive
from dyncity_sim.domain.scene import Provenance
from dyncity_sim.domain.sensors import LidarSensor, SensorRig
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.export.plan import ExportPlan
from dyncity_sim.export.run import export_drives

RIG = SensorRig("roof", (LidarSensor(tuple(np.deg2rad(np.linspace(0, -20, 12))), 360),))
FRAMES = {"first": 12, "second": 3, "third": 7}
SAMPLES = {"first": 3, "second": 1, "third": 2}


@pytest.fixture(scope="module")
def dataset(build_street, street_actor, tmp_path_factory) -> Path:
    """Drives that start at the same time, two of them along the same street with the same actors."""
    out = tmp_path_factory.mktemp("scenes")
    actors = [street_actor(9, -1.7, 0, 8), street_actor(14, 3.5, np.pi, 0)]

    def opened(name: str) -> LoadedDrive:
        occupancy = build_street(frames=FRAMES[name], actors=() if name == "second" else actors)
        provenance = Provenance(None, (), f"(c) {name}", CARLASC.id)
        return LoadedDrive(name, occupancy, None, None, provenance, (), len(occupancy), 10.0)

    drives = [ListedDrive(name, frames, lambda name=name: opened(name)) for name, frames in FRAMES.items()]
    assert export_drives(drives, ExportPlan(("nuscenes",), RIG), out).failure is None
    return out / "nuscenes"


@pytest.fixture(scope="module")
def read(devkit, dataset, tmp_path_factory) -> dict[str, Any]:
    """What nuscenes-devkit says of it."""
    out = tmp_path_factory.mktemp("read") / "scenes.json"
    reader = Path(__file__).with_name("nuscenes_scenes_reader.py")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"MPLBACKEND": "Agg"}
    subprocess.run([devkit, reader, dataset, out], env=environment, check=True, stdout=subprocess.DEVNULL, timeout=200)
    return json.loads(out.read_text())


@pytest.mark.slow
def test_the_devkit_finds_every_scene_with_its_own_samples_and_sweeps(read):
    scenes = {scene["name"]: scene for scene in read["scenes"]}
    assert list(scenes) == read["split"] == list(FRAMES)
    for name, scene in scenes.items():
        assert scene["scenes_of_samples"] == [name]
        assert scene["nbr_samples"] == len(scene["sample_times"]) == SAMPLES[name]
        assert scene["last_is_last"]
        assert scene["sample_times"] == [500_000 * n for n in range(SAMPLES[name])]
        assert scene["frame_times"] == [100_000 * n for n in range(FRAMES[name])]
        assert scene["log"] == name
        assert f"(c) {name}" in scene["description"]
        assert scene["on_road"]


@pytest.mark.slow
def test_the_devkit_counts_shared_records_once_and_those_of_scenes_together(read):
    counts = read["counts"]
    assert (counts["category"], counts["attribute"], counts["visibility"], counts["sensor"]) == (32, 7, 4, 1)
    assert counts["calibrated_sensor"] == counts["scene"] == counts["log"] == counts["map"] == 3
    assert counts["sample_data"] == counts["ego_pose"] == sum(FRAMES.values())
    assert counts["sample"] == counts["lidarseg"] == sum(SAMPLES.values())


@pytest.mark.slow
def test_the_devkit_reads_a_label_for_every_point_of_every_scene(read):
    for scene in read["scenes"]:
        assert scene["points"] == scene["labels"]
        assert min(scene["points"]) > 1000
        assert "flat.driveable_surface" in scene["categories"]
        assert ("vehicle.car" in scene["categories"]) is (scene["name"] != "second")


@pytest.mark.slow
def test_instances_are_of_one_scene_each_and_their_chains_end_in_it(read):
    for scene in read["scenes"]:
        chained = [token for chain in scene["chains"].values() for token in chain]
        assert sorted(chained) == sorted(scene["annotations"])
        assert [len(chain) for chain in scene["chains"].values()] == scene["instances"]
        assert scene["instances"] == ([] if scene["name"] == "second" else [SAMPLES[scene["name"]]] * 2)
    tokens = [token for scene in read["scenes"] for token in scene["chains"]]
    assert len(set(tokens)) == len(tokens) == read["counts"]["instance"] == 4
