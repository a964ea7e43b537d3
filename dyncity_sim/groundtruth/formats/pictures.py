"""Camera images as PNG files, and intrinsics as most readers of them count pixels."""

import io

import numpy as np
from jaxtyping import Float32, Float64, UInt8, UInt16
from PIL import Image

from dyncity_sim.domain.sensors import CameraSensor
from dyncity_sim.errors import InvalidInputError

DEPTH_STEPS_PER_M = 256
"""Steps of a depth picture to a metre, as KITTI's depth maps have (Uhrig et al., 3DV 2017)."""

MAX_DEPTH_M = (2**16 - 1) / DEPTH_STEPS_PER_M

_LEVEL = 1  # deflate's fastest: labels shrink a hundredfold all the same


def label_png(labels: UInt8[np.ndarray, "H W"], palette: UInt8[np.ndarray, "K 3"]) -> bytes:
    """A picture of palette colours whose pixels are the labels themselves (PNG colour type 3)."""
    image = Image.fromarray(labels)
    image.putpalette(palette.tobytes())
    return _png(image)


def id_png(ids: UInt16[np.ndarray, "H W"]) -> bytes:
    """A grey picture of 16 bits a pixel."""
    return _png(Image.fromarray(ids))


def depth_png(depth_m: Float32[np.ndarray, "H W"]) -> bytes:
    """Depth in steps of 1/256 m, rounded, at least one step; 0 where there is nothing."""
    seen = np.isfinite(depth_m)
    steps = np.zeros(depth_m.shape, dtype=np.uint16)
    steps[seen] = np.maximum(np.rint(depth_m[seen] * DEPTH_STEPS_PER_M), 1)
    return id_png(steps)


def check_depth(camera: CameraSensor) -> None:
    """Raise InvalidInputError for a camera that sees farther than a depth picture can hold."""
    if camera.max_range_m > MAX_DEPTH_M:
        raise InvalidInputError(
            f"{camera.name}.max_range_m", camera.max_range_m, f"at most {MAX_DEPTH_M:.2f} m in 16 bit depth pictures"
        )


def opencv_intrinsics(camera: CameraSensor) -> Float64[np.ndarray, "3 3"]:
    """K where the middle of the upper left pixel is (0, 0), as OpenCV, ROS, KITTI and nuScenes-devkit count."""
    intrinsics = camera.intrinsics
    intrinsics[:2, 2] -= 0.5
    return intrinsics


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=_LEVEL)
    return content.getvalue()
