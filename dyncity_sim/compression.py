"""Packed data from somebody who is not trusted: its size is known before it is unpacked."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zstandard

from dyncity_sim.errors import InvalidInputError

MOST_ARRAY_BYTES = 2**30
"""Of one array in a file: 8,192 frames of CarlaSC's grid."""


def decompressed(frame: bytes, expected_bytes: int, field: str) -> bytes:
    """The content of one Zstandard frame.

    Args:
        frame: nothing but the frame, with its content's size in the header.
        expected_bytes: of the content.
        field: names the frame in errors.

    Raises:
        InvalidInputError: the frame claims another size, is damaged, or something follows it.
    """
    try:
        # zstandard allocates what the frame's header claims, so the claim is checked first.
        claimed = zstandard.frame_content_size(frame)
        if claimed != expected_bytes:
            got = "no content size in the zstd header" if claimed < 0 else f"{claimed} bytes once unpacked"
            raise InvalidInputError(field, got, f"{expected_bytes} bytes")
        return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise InvalidInputError(field, f"damaged zstd data ({error})", "one whole zstd frame") from error


def read_arrays(
    file: Path, wanted: Sequence[str], also: Sequence[str] = (), most_bytes: int = MOST_ARRAY_BYTES
) -> dict[str, np.ndarray]:
    """The arrays ``wanted`` of an ``.npz`` file, and those of ``also`` that are there; nothing is unpickled.

    Args:
        file: the file.
        wanted: arrays that it must hold.
        also: arrays that it may hold.
        most_bytes: of an array with its header.

    Raises:
        InvalidInputError: the file cannot be read, is damaged, lacks an array, or holds one that is too large.
    """
    try:
        # NumPy leaves a file open that it opened itself and finds damaged.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            there = list(arrays.files)
            names = [name for name in (*wanted, *also) if name in there]
            for name in names:
                # NumPy unpacks whatever there is, and a few kilobytes may hold as many gigabytes.
                size = arrays.zip.getinfo(f"{name}.npy").file_size
                if size > most_bytes:
                    raise InvalidInputError(f"{file} {name}", f"{size} bytes", f"at most {most_bytes}")
            found = {name: arrays[name] for name in names}
            for name, array in found.items():
                # What is no array comes as bytes, and texts of no letters take none, however many they are.
                if not isinstance(array, np.ndarray) or array.size > most_bytes:
                    raise ValueError(f"{name} is no array")
    except InvalidInputError:
        raise
    except OSError as error:
        raise InvalidInputError(str(file), error.strerror or str(error), "a whole .npz file") from error
    # NumPy reads a damaged header as Python text, so that nearly anything may come of it.
    except Exception as error:
        got = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise InvalidInputError(str(file), got, "a whole .npz file") from error
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InvalidInputError(
            str(file), f"the arrays {', '.join(there)}", f"{', '.join(wanted)}: {missing[0]} is missing"
        )
    return found
