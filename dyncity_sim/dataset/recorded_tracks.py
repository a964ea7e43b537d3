"""The true tracks of a recording, out of the actors of its frames."""

from collections.abc import Iterable, Sequence

import numpy as np

from dyncity_sim.domain.recording import ActorState, RecordedFrame
from dyncity_sim.domain.scene import Track


def recorded_tracks(frames: Iterable[RecordedFrame]) -> tuple[Track, ...]:
    """One track for each actor that has cells in one of the frames, with poses at those frames; sorted by id.

    An actor whose box reaches over the grid without filling a cell of it (a truck's roof above the grid, a corner
    outside) has nothing that labels could be of at that time.
    """
    seen: dict[int, list[tuple[int, ActorState]]] = {}
    for frame in frames:
        present = set(np.unique(frame.instances).tolist())
        for actor in frame.actors:
            if actor.id in present:
                seen.setdefault(actor.id, []).append((frame.time_us, actor))
    return tuple(_track(number, states) for number, states in sorted(seen.items()))


def _track(number: int, states: Sequence[tuple[int, ActorState]]) -> Track:
    poses = np.stack([actor.pose_world_from_actor for _, actor in states])
    speeds = np.array([actor.speed_mps for _, actor in states])
    first = states[0][1]
    return Track(
        id=number,
        kind=first.kind,
        size_m=first.size_m,
        poses_world_from_actor=poses,
        times_us=np.array([time_us for time_us, _ in states], dtype=np.int64),
        velocities_world_mps=poses[:, :3, 0] * speeds[:, None],
    )
