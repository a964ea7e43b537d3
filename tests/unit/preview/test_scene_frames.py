"""Claims about a scene as frames of occupancy."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.preview.scene_frames import scene_frames
from dyncity_sim.scene.build import build_scene

VEHICLE = CARLASC.index("vehicle")


def test_a_straight_drive_comes_back_with_its_car_where_it_drove(
    build_street: Callable[..., Any], street_actor: Any
) -> None:
    drive = build_street(frames=6, ego_speed_mps=4.0, actors=[street_actor(12.0, 2.0, speed_mps=8.0)])
    frames = scene_frames(build_scene(drive))
    assert frames.labels.shape == drive.labels.shape
    static = (drive.labels != VEHICLE) & (frames.labels != VEHICLE)
    assert (frames.labels == drive.labels)[static].mean() > 0.999
    for shown, true in zip(frames.labels == VEHICLE, drive.labels == VEHICLE, strict=True):
        assert abs(np.argwhere(shown).mean(axis=0) - np.argwhere(true).mean(axis=0)).max() < 1.0


def test_beyond_the_map_there_is_nothing(build_street: Callable[..., Any]) -> None:
    scene = build_scene(build_street(frames=2), tracks=())
    away = scene.ego_poses_world_from_ego.copy()
    away[:, 0, 3] += 500.0
    assert not scene_frames(replace(scene, ego_poses_world_from_ego=away)).labels.any()
