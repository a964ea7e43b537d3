"""What a chunk of the family ``reference`` hands to the next: its rollout, and where and when it ended."""

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dyncity_sim.domain.conditions import Continuation
from dyncity_sim.domain.frames import Pose
from dyncity_sim.errors import CheckpointError, InvalidInputError

_MAGIC = b"DCR1"
_HEAD = struct.Struct("<4sIq16d")
"""Magic, CRC-32 of all after it, time in microseconds, pose; then the rollout in half precision."""


@dataclass(frozen=True, eq=False)
class EndedChunk:
    """The end of a chunk.

    Attributes:
        rollout: its latents, ``(1, C, H, W)``.
        pose_world_from_ego: of its last frame.
        time_us: of its last frame.
    """

    rollout: Float[Tensor, "1 C H W"]
    pose_world_from_ego: Pose
    time_us: int

    def packed(self, model_id: str) -> Continuation:
        """The continuation of a model.

        Raises:
            CheckpointError: the latents do not fit half precision, which weights that were trained never come near.
        """
        rollout = self.rollout.half().cpu()
        if not rollout.isfinite().all():
            largest = float(self.rollout.abs().max())
            raise CheckpointError(
                "weights",
                f"latents of up to {largest:.3g}",
                "latents within half precision, 65504",
                "Sampling ran away: serve with --option sampling.latent_limit=X, or ask for more steps.",
            )
        body = _HEAD.pack(_MAGIC, 0, self.time_us, *self.pose_world_from_ego.ravel())[8:] + rollout.numpy().tobytes()
        return Continuation(model_id, _MAGIC + struct.pack("<I", zlib.crc32(body)) + body)

    @classmethod
    def unpacked(cls, continuation: Continuation, model_id: str, shape: tuple[int, int, int]) -> "EndedChunk":
        """The end of the chunk before.

        Args:
            continuation: from a reply or from ``encode``.
            model_id: the model that reads it.
            shape: C, H, W of its rollouts.

        Raises:
            InvalidInputError: it is another model's, or damaged; both ids are named.
        """
        if continuation.model_id != model_id:
            raise InvalidInputError(
                "continuation.model_id",
                repr(continuation.model_id),
                repr(model_id),
                "Continue with the model that began the drive, or start a new one.",
            )
        payload, length = continuation.payload, _HEAD.size + 2 * int(np.prod(shape))
        whole = len(payload) == length and payload[:4] == _MAGIC
        if not whole or zlib.crc32(payload[8:]) != struct.unpack_from("<I", payload, 4)[0]:
            raise InvalidInputError(
                "continuation.payload",
                f"{len(payload)} bytes said to be of {continuation.model_id}, "
                + ("whose checksum is wrong" if whole else "of another form"),
                f"the {length} bytes that {model_id} made",
                "It was damaged on its way: send it as it came.",
            )
        _, _, time_us, *pose = _HEAD.unpack_from(payload)
        rollout = np.frombuffer(payload, "<f2", offset=_HEAD.size).reshape(1, *shape)
        return cls(torch.from_numpy(rollout.astype(np.float32)), np.array(pose).reshape(4, 4), time_us)
