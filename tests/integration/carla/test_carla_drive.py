"""Drives in CARLA: an ego on its plans, and generated actors around it."""

import numpy as np
import pytest
from dyncity_carla.frames import CarlaTransform, pose_from_carla
from dyncity_carla.simulator import CarlaSimulator

from dyncity_sim.domain.conditions import Command
from dyncity_sim.domain.frames import planar_from_poses


def test_a_car_generated_ahead_left_of_the_ego_stands_ahead_left_in_carla(loopback, drive_options, chunk_with_car):
    with CarlaSimulator(drive_options(), "", 2) as simulator:
        plan = simulator.plan(16)
        for _ in simulator.follow(plan, chunk_with_car(plan, (10.0, 4.0))):
            pass
        (car,) = loopback.inspector.actors("vehicle.", "dyncity:")
        (ego,) = loopback.inspector.actors("vehicle.", "hero")
    ego_from_world = np.linalg.inv(CarlaTransform(*ego["transform"]).matrix)
    ahead_m, right_m = (ego_from_world @ CarlaTransform(*car["transform"]).matrix)[:2, 3]
    # The ego frame is half a metre behind the middle of the car.
    assert ahead_m == pytest.approx(9.5, abs=0.5)
    assert right_m == pytest.approx(-4.0, abs=0.5)


def test_a_spectator_that_follows_looks_over_the_ego_from_behind_and_is_left_alone_otherwise(loopback, drive_options):
    def spectator():
        (actor,) = (actor for actor in loopback.inspector.world()["actors"] if actor["type"] == "spectator")
        return actor["transform"]

    before = spectator()
    with CarlaSimulator(drive_options(), "", 2) as simulator:
        assert len(list(simulator.follow(simulator.plan(16)))) == 16
    assert spectator() == before
    with CarlaSimulator(drive_options(follow=True), "", 2) as simulator:
        *_, last = simulator.follow(simulator.plan(16))
    pose = pose_from_carla(CarlaTransform(*spectator()))
    seen = np.linalg.inv(pose) @ last.pose_world_from_ego
    # Straight ahead, and below the middle of the picture.
    assert seen[0, 3] > 5.0
    assert abs(seen[1, 3]) < 0.01
    assert -2.0 < seen[2, 3] < 0.0
    assert pose[2, 3] - last.pose_world_from_ego[2, 3] == pytest.approx(3.0, abs=0.01)
    assert planar_from_poses(pose)[2] == pytest.approx(planar_from_poses(last.pose_world_from_ego)[2], abs=1e-3)


def test_left_turns_left_in_carla_and_right_turns_right(loopback, drive_options):
    seen = set()
    for seed in range(2, 10):
        with CarlaSimulator(drive_options(), "", seed) as simulator:
            for _ in range(20):
                plan = simulator.plan(16)
                (before,) = loopback.inspector.actors("vehicle.", "hero")
                for _ in simulator.follow(plan):
                    pass
                (after,) = loopback.inspector.actors("vehicle.", "hero")
                turned_deg = (after["transform"][4] - before["transform"][4] + 180) % 360 - 180
                if plan.command is Command.LEFT:
                    assert turned_deg < -5
                elif plan.command is Command.RIGHT:
                    assert turned_deg > 5
                seen.add(plan.command)
        if seen >= {Command.LEFT, Command.RIGHT}:
            return
    pytest.fail(f"only {seen} were driven")


def test_frames_show_the_ego_on_its_plan_and_the_road_under_it(drive_options):
    with CarlaSimulator(drive_options(lidars=2, points_per_sweep=4000), "", 1) as simulator:
        plan = simulator.plan(16)
        frames = list(simulator.follow(plan))
    for frame, pose, time_us in zip(frames, plan.poses_world_from_ego, plan.times_us, strict=True):
        np.testing.assert_allclose(frame.pose_world_from_ego, pose, atol=0.01)
        assert frame.time_us == time_us
    last = frames[-1]
    assert (last.counts > 0).sum() > 1000
    road = last.labels[60:69, 60:69, 0]
    assert (road == 7).mean() > 0.8


@pytest.mark.usefixtures("every_town")
def test_the_ego_keeps_to_its_plans_and_to_the_road_in_every_town(loopback, drive_options, chunk_with_car):
    with CarlaSimulator(drive_options(lidars=2, points_per_sweep=4000), "", 4) as simulator:
        for _ in range(3):
            plan = simulator.plan(16)
            frames = list(simulator.follow(plan, chunk_with_car(plan)))
            last = frames[-1]
            np.testing.assert_allclose(last.pose_world_from_ego, plan.poses_world_from_ego[-1], atol=0.01)
            assert (last.labels[60:69, 60:69, 0] == 7).mean() > 0.8
    assert loopback.inspector.actors() == []
