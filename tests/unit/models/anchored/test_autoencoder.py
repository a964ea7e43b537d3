from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.anchored.autoencoder import Autoencoder, sample_posterior
from dyncity_models.config import AutoencoderConfig
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.hexplane import Planes, canvas_poses

from dyncity_sim.domain.frames import planar_from_poses, poses_from_planar, transform_points
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import ConfigError


@pytest.fixture(scope="module")
def autoencoder(build_autoencoder):
    return build_autoencoder()


def tensors(street):
    planar = torch.from_numpy(planar_from_poses(street.poses_world_from_ego))[None]
    return torch.from_numpy(street.labels)[None], canvas_poses(planar, 8).float()


def test_planes_and_logits_have_the_shapes_of_the_configuration(autoencoder, build_street):
    config = autoencoder.config
    labels, poses = tensors(build_street())
    with torch.inference_mode():
        means, log_variances = autoencoder.encode(labels, poses)
        logits = autoencoder.decode(means, poses, torch.tensor([[0, 7, 15]]))
        decoded = torch.cat(list(autoencoder.decode_labels(means, poses)), dim=1)
    latent, cells, pairs = config.latent_channels, config.latent_cells, config.pairs
    for planes in (means, log_variances):
        shapes = [tuple(plane.shape) for plane in planes]
        assert shapes == [(1, latent, cells, cells), (1, latent, pairs, cells), (1, latent, pairs, cells)]
    assert all(((v >= -10) & (v <= 4)).all() for v in log_variances)
    assert logits.shape == (1, 3, 128, 128, 8, config.classes)
    assert decoded.dtype == torch.uint8
    assert decoded.shape == labels.shape
    assert torch.equal(decoded[:, 7], logits[:, 1].argmax(dim=-1).to(torch.uint8))


def blocks(planar):
    """Road with square buildings 6.4 m apart, fixed in the world, in the ego grids of some poses."""
    x, y = np.meshgrid(CARLASC_GRID.centres(0), CARLASC_GRID.centres(1), indexing="ij")
    ego = np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3)
    world = transform_points(poses_from_planar(planar), np.broadcast_to(ego, (len(planar), *ego.shape)))
    built = (world[..., :2] % 12.8 < 6.4).all(axis=-1).reshape(len(planar), 128, 128)
    labels = np.zeros((len(planar), *CARLASC_GRID.shape), dtype=np.uint8)
    labels[..., 0] = CARLASC.index("road")
    labels[built] = CARLASC.index("building")
    return torch.from_numpy(labels)[None]


def test_a_static_world_leaves_the_same_plane_seen_in_passing_as_seen_standing(build_autoencoder):
    """At initialisation, where no random layer amplifies an edge; in the middle, which every frame covers."""
    autoencoder = build_autoencoder(initial=True)
    planar = np.column_stack([0.4 * (np.arange(16) - 8), np.zeros(16), np.zeros(16)])
    poses = torch.from_numpy(planar)[None].float()
    still = torch.zeros_like(poses)
    with torch.inference_mode():
        expected = autoencoder.encode(blocks(np.zeros((16, 3))), still)[0].xy
        passing, smeared = (autoencoder.encode(blocks(planar), given)[0].xy for given in (poses, still))
    middle = (..., slice(5, 11), slice(5, 11))
    error, without_poses = (float((xy - expected)[middle].square().mean().sqrt()) for xy in (passing, smeared))
    assert error < 0.05 * float(expected[middle].std())
    assert error < 0.3 * without_poses


def test_poses_a_full_turn_apart_are_the_same(autoencoder, build_street):
    labels, poses = tensors(build_street(curvature_per_m=0.05))
    turned = poses.clone()
    turned[:, 1::2, 2] += 2 * np.pi
    with torch.inference_mode():
        once, again = (autoencoder.encode(labels, p)[0] for p in (poses, turned))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(once, again, strict=True))


def test_standing_in_a_static_world_moves_nothing(autoencoder, build_street):
    """All pairs look the same, so the time planes do not change over time."""
    labels, poses = tensors(build_street(ego_speed_mps=0.0))
    with torch.inference_mode():
        means, _ = autoencoder.encode(labels, poses)
    for plane in (means.tx, means.ty):
        assert torch.allclose(plane, plane[:, :, :1].expand_as(plane), atol=1e-5)


def test_a_passing_vehicle_shows_in_the_time_planes(autoencoder, build_street, street_actor):
    with torch.inference_mode():
        empty, with_vehicle = (
            autoencoder.encode(*tensors(build_street(ego_speed_mps=0.0, actors=actors)))[0]
            for actors in ([], [street_actor(5.0, -2.5, 0.0, 10.0)])
        )
    over_time = (with_vehicle.tx - empty.tx)[0].abs().amax(dim=0)
    # canvas x of the vehicle's centre, in latent cells of 4 m, in the first and in the last pair
    assert int(over_time[0].argmax()) in (8, 9, 10)
    assert int(over_time[-1].argmax()) in (12, 13)


def test_gradients_reach_every_parameter(build_autoencoder, build_street):
    autoencoder = build_autoencoder().train()
    labels, poses = tensors(build_street())
    means, log_variances = autoencoder.encode(labels, poses)
    planes = sample_posterior(means, log_variances, torch.Generator().manual_seed(0))
    autoencoder.decode(planes, poses, torch.tensor([[2, 9]])).square().mean().backward()
    unreached = [n for n, p in autoencoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert unreached == []


def test_a_frame_is_decoded_the_same_whichever_others_are_asked_for(autoencoder, build_planes, plan_along):
    planes = build_planes(1)
    poses = canvas_poses(torch.from_numpy(planar_from_poses(plan_along().poses_world_from_ego))[None], 8).float()
    with torch.inference_mode():
        together = autoencoder.decode(planes, poses, torch.tensor([[3, 11, 12]]))
        for place, frame in enumerate((3, 11, 12)):
            alone = autoencoder.decode(planes, poses, torch.tensor([[frame]]))
            assert torch.allclose(alone[:, 0], together[:, place], atol=1e-5)
    assert not torch.allclose(together[:, 0], together[:, 1], atol=1e-2)


def test_samples_of_a_batch_do_not_touch_each_other(autoencoder, build_street):
    first, second = (tensors(build_street(ego_speed_mps=v, curvature_per_m=c)) for v, c in ((3.0, 0.0), (6.0, 0.02)))
    labels, poses = (torch.cat(parts) for parts in zip(first, second, strict=True))
    frames = torch.tensor([[4], [13]])
    with torch.inference_mode():
        means, _ = autoencoder.encode(labels, poses)
        logits = autoencoder.decode(means, poses, frames)
        for i, (alone_labels, alone_poses) in enumerate((first, second)):
            alone, _ = autoencoder.encode(alone_labels, alone_poses)
            for a, b in zip(alone, means, strict=True):
                assert torch.allclose(a[0], b[i], atol=1e-4)
            assert torch.allclose(autoencoder.decode(alone, alone_poses, frames[i : i + 1])[0], logits[i], atol=1e-3)


def test_never_observed_is_something_else_than_free(autoencoder, build_street):
    labels, poses = tensors(build_street())
    hidden = labels.clone()
    hidden[labels == 0] = UNOBSERVED
    assert autoencoder.config.classes == UNOBSERVED
    with torch.inference_mode():
        free, unknown = (autoencoder.encode(tokens, poses)[0].xy for tokens in (labels, hidden))
    assert float((free - unknown).abs().max()) > 0.1 * float(free.std())


def test_turning_the_plan_left_turns_the_decoded_world_right(autoencoder, build_planes):
    """At frame 15 the ego looks along canvas y, so its first axis is the canvas's second."""
    planes = build_planes(1)
    poses = torch.zeros(1, 16, 3)
    frames = torch.tensor([[15]])
    turned = poses.clone()
    turned[0, 15, 2] = torch.pi / 2
    seen = {}

    def keep(module, inputs, output):
        seen[len(seen)] = inputs[0]

    handle = autoencoder.decoder.frame_stem.register_forward_hook(keep)
    with torch.inference_mode():
        autoencoder.decode(planes, poses, frames)
        autoencoder.decode(planes, turned, frames)
    handle.remove()
    straight, left = seen[0][0], seen[1][0]
    assert np.allclose(left, straight.rot90(-1, (1, 2)), atol=1e-4)
    assert not np.allclose(left, straight.rot90(1, (1, 2)), atol=1e-2)


def test_without_a_common_frame_the_plan_changes_nothing(autoencoder, build_street, build_planes):
    config = replace(autoencoder.config, canvas=replace(autoencoder.config.canvas, common=False))
    alone = Autoencoder(config).eval()
    alone.load_state_dict(autoencoder.state_dict())
    labels, poses = tensors(build_street())
    planes, frames = build_planes(1), torch.tensor([[0, 15]])
    with torch.inference_mode():
        for net, same in ((alone, True), (autoencoder, False)):
            encoded = [net.encode(labels, p)[0].flat() for p in (poses, torch.zeros_like(poses))]
            decoded = [net.decode(planes, p, frames) for p in (poses, torch.zeros_like(poses))]
            assert torch.equal(*encoded) is same
            assert torch.equal(*decoded) is same


@pytest.fixture(scope="module")
def tall(build_autoencoder):
    return build_autoencoder(height_planes=True)


class TestPlanesOverHeight:
    def test_have_a_row_of_heights_for_each_cell_and_each_pair(self, tall, build_street):
        labels, poses = tensors(build_street())
        latent, cells, pairs, heights = 8, tall.config.latent_cells, tall.config.pairs, 8
        with torch.inference_mode():
            means, log_variances = tall.encode(labels, poses)
            logits = tall.decode(means, poses, torch.tensor([[0, 15]]))
        for planes in (means, log_variances):
            assert [tuple(planes.named()[name].shape[1:]) for name in ("xz", "yz", "tz")] == [
                (latent, cells, heights),
                (latent, cells, heights),
                (latent, pairs, heights),
            ]
        assert logits.shape == (1, 2, 128, 128, 8, tall.config.classes)

    def test_each_changes_the_canvas_where_and_when_its_cells_lie(self, tall, build_planes):
        """Rows 2 to 7 of 64 cells of 0.8 m, from -25.6 m on, look at row 3 of 16 and its neighbours, from -32 m on."""
        still, frames = torch.zeros(1, 16, 3), torch.tensor([[0, 15]])
        planes = build_planes(1)
        heights = [torch.zeros(1, 8, cells, 8) for cells in (16, 16, 8)]
        before = Planes(*planes, *heights)
        seen = []
        handle = tall.decoder.frame_stem.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))

        def changed(name, row):
            plane = torch.zeros_like(getattr(before, name))
            plane[:, :, row] = 3.0
            for given in (before, replace(before, **{name: plane})):
                tall.decode(given, still, frames)
            return (seen.pop() - seen.pop()).abs().amax(dim=1) > 1e-6

        with torch.inference_mode():
            along_x, along_y, early = changed("xz", 3), changed("yz", 3), changed("tz", 0)
        handle.remove()
        assert along_x[:, 2:7].all()
        assert not along_x[:, 32:].any()
        assert along_y[:, :, 2:7].all()
        assert not along_y[:, :, 32:].any()
        assert early[0].all()
        assert not early[1].any()

    def test_gradients_reach_every_parameter(self, build_autoencoder, build_street):
        tall = build_autoencoder(height_planes=True).train()
        labels, poses = tensors(build_street())
        means, log_variances = tall.encode(labels, poses)
        planes = sample_posterior(means, log_variances, torch.Generator().manual_seed(0))
        tall.decode(planes, poses, torch.tensor([[2, 9]])).square().mean().backward()
        assert [n for n, p in tall.named_parameters() if p.grad is None or not p.grad.any()] == []

    def test_need_as_many_channels_for_each_height(self):
        with pytest.raises(ConfigError, match="feature_channels"):
            AutoencoderConfig(height_cells=5, height_planes=True)
        assert AutoencoderConfig(height_cells=5).height_cells == 5
