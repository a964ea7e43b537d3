"""What training takes for known is what a region could settle."""

from itertools import product

import pytest
import torch
from dyncity_models.backends.reference.region import settled
from dyncity_models.reference.planes import pack
from dyncity_models.training.known_regions import drawn_regions


@pytest.fixture(scope="module")
def drawn(even_planes):
    return drawn_regions(400, even_planes, torch.Generator().manual_seed(0))


def test_a_seed_draws_the_same_regions(drawn, even_planes):
    again = drawn_regions(400, even_planes, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))


def test_every_region_settles_something_and_leaves_something(drawn):
    known = pack(drawn.map(torch.Tensor.float))
    everything = pack(drawn.map(lambda plane: torch.ones_like(plane, dtype=torch.float32)))
    assert (known.flatten(1).sum(1) > 0).all()
    assert (known.flatten(1).sum(1) < everything.flatten(1).sum(1)).all()


def test_sides_squares_and_whole_first_frames_are_drawn(drawn):
    xy, tx = drawn.xy[:, 0], drawn.tx[:, 0]
    whole = xy.all(dim=(1, 2))
    assert 60 < whole.sum() < 140
    first = tx[whole].all(2)
    assert first[:, 0].all()
    assert not first[:, -1].any()
    sides = ~whole & ((xy == xy[:, :, :1]).all(dim=(1, 2)) | (xy == xy[:, :1]).all(dim=(1, 2)))
    assert 150 < sides.sum() < 250
    centre = xy[:, 3:5, 3:5].all(dim=(1, 2))
    corner = xy[:, 0, 0] & xy[:, 0, -1] & xy[:, -1, 0] & xy[:, -1, -1]
    assert (~whole & ~sides & (centre ^ corner)).sum() > 60


def test_planes_agree_with_what_the_same_known_cells_settle_up_to_the_reach_of_the_encoder(drawn, even_planes):
    """``settled`` also asks for a latent cell's neighbours, so it settles no more than is drawn."""
    cells = even_planes.plane_cells
    blocks = [whole // cells[axis] for axis, whole in zip("txyz", (even_planes.frames, *even_planes.grid), strict=True)]
    for sample in range(40):
        frames = drawn.tx[sample, 0].any(1) | drawn.ty[sample, 0].any(1)
        columns = drawn.xy[sample, 0]
        carried = columns[None, :, :, None].expand(cells["t"], -1, -1, cells["z"])
        observed = carried & frames[:, None, None, None]
        full = [
            mask.repeat_interleave(blocks[0], 0)
            .repeat_interleave(blocks[1], 1)
            .repeat_interleave(blocks[2], 2)
            .repeat_interleave(blocks[3], 3)
            for mask in (observed, carried)
        ]
        for ours, theirs in zip(drawn, settled(full[0], full[1], even_planes), strict=True):
            assert not (theirs[0].bool() & ~ours[sample, 0]).any()


def test_a_plane_settles_a_cell_only_where_all_columns_it_covers_are_known(drawn):
    for sample, (row, layer) in product(range(40), product(range(8), range(4))):
        assert drawn.xz[sample, 0, row, layer] == drawn.xy[sample, 0, row].all()
        assert drawn.yz[sample, 0, row, layer] == drawn.xy[sample, 0, :, row].all()
