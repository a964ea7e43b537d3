import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from dyncity_sim.errors import InvalidInputError
from dyncity_sim.wire.limits import MAX_VOXEL_BYTES
from dyncity_sim.wire.voxels import VoxelEncoding, pack_labels, pack_observed, unpack_labels, unpack_observed

SHAPE = (2, 8, 8, 4)
LABELS = np.random.default_rng(7).integers(0, 12, SHAPE, dtype=np.uint8)
PACKED = pack_labels(LABELS, VoxelEncoding.ZSTD)


def unpack(data):
    return unpack_labels(data, VoxelEncoding.ZSTD, SHAPE, "labels")


def test_empty_space_packs_to_almost_nothing():
    labels = np.zeros((16, 128, 128, 8), dtype=np.uint8)
    assert len(pack_labels(labels, VoxelEncoding.ZSTD)) < 500


def test_the_first_cell_of_a_mask_is_the_lowest_bit():
    observed = np.zeros((1, 1, 1, 10), dtype=np.bool_)
    observed[0, 0, 0, 0] = observed[0, 0, 0, 9] = True
    packed = pack_observed(observed, VoxelEncoding.RAW)
    assert packed == b"\x01\x02"
    assert np.array_equal(unpack_observed(packed, VoxelEncoding.RAW, observed.shape, "observed"), observed)


def test_an_array_that_is_not_contiguous_packs_in_c_order():
    turned = LABELS.transpose(0, 2, 1, 3)
    assert np.array_equal(unpack(pack_labels(turned, VoxelEncoding.ZSTD)), turned)


@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_a_damaged_byte_never_passes_for_other_labels(position, flip):
    damaged = bytearray(PACKED)
    damaged[position] ^= flip
    with suppress(InvalidInputError):
        assert np.array_equal(unpack(bytes(damaged)), LABELS)


@given(st.integers(0, len(PACKED) - 1))
def test_a_truncated_frame_is_refused(length):
    with pytest.raises(InvalidInputError):
        unpack(PACKED[:length])


def test_bytes_after_the_frame_are_refused():
    with pytest.raises(InvalidInputError):
        unpack(PACKED + b"more")


def test_a_frame_without_its_size_is_refused():
    data = zstandard.ZstdCompressor(write_content_size=False).compress(LABELS.tobytes())
    with pytest.raises(InvalidInputError, match="content size"):
        unpack(data)


def test_a_bomb_is_refused_before_it_is_unpacked():
    bomb = zstandard.ZstdCompressor().compress(bytes(512 * 2**20))
    tracemalloc.start()
    with pytest.raises(InvalidInputError, match="536870912 bytes"):
        unpack(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("shape", [(0, *[2**32 - 1] * 3), (1, 0, 2**32 - 1, 2**32 - 1), (2, 3, 4, 0)])
def test_a_shape_without_cells_is_refused(shape):
    with pytest.raises(InvalidInputError, match="at least one cell"):
        unpack_labels(b"", VoxelEncoding.RAW, shape, "labels")
    with pytest.raises(InvalidInputError, match="at least one cell"):
        unpack_observed(b"", VoxelEncoding.RAW, shape, "observed")


def test_a_shape_over_the_limit_is_refused_whatever_the_data():
    with pytest.raises(InvalidInputError, match="at most"):
        unpack_labels(b"", VoxelEncoding.RAW, (MAX_VOXEL_BYTES + 1, 1, 1, 1), "labels")
