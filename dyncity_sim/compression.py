"""Zstandard frames whose content has a size that is known before they are unpacked."""

import zstandard

from dyncity_sim.errors import InvalidInputError


def decompressed(frame: bytes, expected_bytes: int, field: str) -> bytes:
    """The content of one frame, from somebody who is not trusted.

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
