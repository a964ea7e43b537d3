"""Claims about the whole numbers that poses and actors are held in."""

import numpy as np
from dyncity_sumo.actors import ACTOR_KINDS, ActorTable
from dyncity_sumo.demand import ACTOR_TYPES
from dyncity_sumo.shots import held_actors, held_pose
from hypothesis import given
from hypothesis import strategies as st

from dyncity_sim.domain.frames import planar_from_poses, poses_from_planar, wrap_angle

metres = st.floats(-20_000, 20_000)
angles = st.one_of(st.floats(-np.pi, np.pi), st.sampled_from([np.pi, -np.pi, np.nextafter(np.pi, 0), 3.1416]))


@st.composite
def tables(draw: st.DrawFn) -> ActorTable:
    count = draw(st.integers(0, 5))
    rows = st.lists(st.tuples(metres, metres, metres, angles, st.floats(-60, 60)), min_size=count, max_size=count)
    numbers = np.array(draw(rows)).reshape(-1, 5)
    types = draw(st.lists(st.sampled_from(ACTOR_TYPES), min_size=count, max_size=count))
    ids = draw(st.lists(st.integers(1, 2**16 - 1), min_size=count, max_size=count, unique=True))
    return ActorTable(
        np.array(sorted(ids), dtype=np.uint16),
        np.array([ACTOR_KINDS.index(t.kind) for t in types], dtype=np.uint8),
        numbers[:, :3],
        numbers[:, 3],
        np.array([t.size_m for t in types]).reshape(-1, 3),
        numbers[:, 4],
    )


def as_bytes(table: ActorTable) -> list[bytes]:
    return [
        array.tobytes()
        for array in (table.ids, table.kinds, table.centres_m, table.yaws_rad, table.sizes_m, table.speeds_mps)
    ]


@given(metres, metres, metres, angles)
def test_a_pose_is_held_within_a_millimetre_and_held_again_it_is_the_same_to_the_last_bit(
    x_m: float, y_m: float, z_m: float, yaw_rad: float
) -> None:
    pose = poses_from_planar(np.array([x_m, y_m, yaw_rad]), z_m)
    held = held_pose(pose)
    assert np.abs(held[:3, 3] - pose[:3, 3]).max() < 0.00051
    assert abs(wrap_angle(planar_from_poses(held)[2] - yaw_rad)) < 0.00005
    assert held_pose(held).tobytes() == held.tobytes()


@given(tables())
def test_actors_are_held_within_a_centimetre_and_held_again_they_are_the_same_to_the_last_bit(
    actors: ActorTable,
) -> None:
    held = held_actors(actors)
    assert np.abs(held.centres_m - actors.centres_m).max(initial=0) < 0.0051
    assert np.abs(wrap_angle(held.yaws_rad - actors.yaws_rad)).max(initial=0) < 0.0004
    assert np.abs(held.speeds_mps - actors.speeds_mps).max(initial=0) < 0.0051
    assert as_bytes(held_actors(held)) == as_bytes(held)


@given(tables())
def test_who_an_actor_is_and_how_large_is_held_exactly(actors: ActorTable) -> None:
    held = held_actors(actors)
    for name in ("ids", "kinds", "sizes_m"):
        assert np.array_equal(getattr(held, name), getattr(actors, name))
