from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.anchored.rollout import rolled_out, unrolled
from dyncity_models.anchored.transformer import DiffusionTransformer
from dyncity_models.conditioning import COMMAND_NONE, layout_on_canvas, path_maps
from dyncity_models.config import AutoencoderConfig, DiffusionTransformerConfig
from dyncity_models.hexplane import Planes, cell_centres
from dyncity_models.layers import position_embedding_2d
from dyncity_models.normalisation import Normalisation
from einops import rearrange

from dyncity_sim.errors import ConfigError


@pytest.fixture(scope="module")
def transformer(build_transformer):
    return build_transformer()


def velocity(transformer, planes, conditions, time=0.6):
    with torch.inference_mode():
        return transformer(planes, torch.full((len(planes),), time), conditions)


def differ(a, b):
    return [not torch.allclose(x, y, atol=1e-5) for x, y in zip(a, b, strict=True)]


def test_velocity_has_the_shapes_of_the_planes(transformer, build_planes, build_conditions):
    planes = build_planes()
    found = velocity(transformer, planes, build_conditions())
    assert [v.shape for v in found] == [p.shape for p in planes]
    assert all(v.dtype == torch.float32 and v.isfinite().all() for v in found)


def test_velocity_is_zero_at_initialisation(build_transformer, build_planes, build_conditions):
    found = velocity(build_transformer(initial=True), build_planes(), build_conditions())
    assert not any(v.any() for v in found)


def test_velocity_depends_on_time_noise_and_every_condition(transformer, build_planes, build_conditions):
    planes, conditions, other = build_planes(), build_conditions(), build_conditions(seed=1)
    start = velocity(transformer, planes, conditions)
    assert all(differ(start, velocity(transformer, planes, conditions, time=0.2)))
    assert all(differ(start, velocity(transformer, build_planes(seed=1), conditions)))
    for name in ("canvas_from_ego", "known_xy", "known_mask", "movers"):
        assert all(differ(start, velocity(transformer, planes, replace(conditions, **{name: getattr(other, name)}))))
    assert all(differ(start, velocity(transformer, planes, replace(conditions, command=conditions.command + 1))))


def test_a_condition_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="layuot"):
        DiffusionTransformerConfig(conditions=("plan", "layuot"))


def test_a_withheld_plan_leaves_no_trace_of_it(transformer, build_planes, build_conditions):
    planes, conditions = build_planes(), build_conditions()
    hidden = replace(conditions, plan_given=torch.zeros(2, dtype=torch.bool))
    elsewhere = replace(hidden, canvas_from_ego=3 * hidden.canvas_from_ego + 1)
    assert not any(differ(velocity(transformer, planes, hidden), velocity(transformer, planes, elsewhere)))
    assert all(differ(velocity(transformer, planes, hidden), velocity(transformer, planes, conditions)))


def test_velocity_depends_on_the_layout_and_on_whether_it_is_given(build_transformer, build_planes, build_conditions):
    transformer = build_transformer(layout=True)
    planes, conditions, other = build_planes(), build_conditions(), build_conditions(seed=1)
    start = velocity(transformer, planes, conditions)
    assert all(differ(start, velocity(transformer, planes, replace(conditions, layout=other.layout))))
    empty = replace(conditions, layout=0 * conditions.layout)
    hidden = replace(conditions, layout_given=torch.zeros(2, dtype=torch.bool))
    assert all(differ(velocity(transformer, planes, empty), velocity(transformer, planes, hidden)))
    elsewhere = replace(hidden, layout=other.layout)
    assert not any(differ(velocity(transformer, planes, hidden), velocity(transformer, planes, elsewhere)))


def test_without_the_condition_a_layout_changes_nothing(transformer, build_planes, build_conditions):
    planes, conditions, other = build_planes(), build_conditions(), build_conditions(seed=1)
    found = [velocity(transformer, planes, replace(conditions, layout=o.layout)) for o in (conditions, other)]
    assert not any(differ(*found))


def test_the_time_planes_see_the_layout_of_their_own_axis(build_transformer, build_conditions):
    conditions = build_conditions(1)
    layout = torch.zeros_like(conditions.layout)
    layout[0, 3, 20, 5] = 0.7
    _, tx, ty = build_transformer(layout=True)._layout_inputs(replace(conditions, layout=layout))
    assert tx[0].shape == ty[0].shape == (1, 2, 8, 16)
    assert tx[0].nonzero().tolist() == [[0, 0, 3, 10]]
    assert ty[0].nonzero().tolist() == [[0, 1, 3, 2]]
    assert float(tx[0].max()) == pytest.approx(0.7)
    assert (tx[1] == 1).all()


def test_a_layout_is_drawn_where_vehicles_stand_on_the_canvas():
    """One cell of one frame: 12 m ahead and 4 m to the left of an ego that faces west on the canvas."""
    layout = torch.zeros((1, 16, 32, 32), dtype=torch.bool)
    layout[0, 5, 16 + 7, 16 + 2] = True
    poses = torch.zeros(1, 16, 3)
    poses[0, 5] = torch.tensor([3.0, -2.0, np.pi])
    drawn = layout_on_canvas(layout, poses, AutoencoderConfig())[0]
    assert drawn.shape == (8, 64, 64)
    assert not drawn[[0, 1, 3, 4, 5, 6, 7]].any()
    centre = (drawn[2, ..., None] * cell_centres(64, 32.0)).sum(dim=(0, 1)) / drawn[2].sum()
    assert centre.tolist() == pytest.approx([3.0 - 7.5 * 1.6, -2.0 - 2.5 * 1.6], abs=0.2)
    assert 0.4 < float(drawn.max()) <= 1.0


def test_conditions_can_be_withheld_one_by_one(build_conditions):
    conditions = build_conditions()
    assert conditions.given() == ("continuation", "plan", "layout", "command")
    for name in conditions.given():
        rest = conditions.without(name)
        assert rest.given() == tuple(other for other in conditions.given() if other != name)
        assert torch.equal(rest.canvas_from_ego, conditions.canvas_from_ego)
    assert conditions.without(*conditions.given()).given() == ()
    assert (conditions.without("command").command == COMMAND_NONE).all()


def test_the_start_of_a_drive_knows_nothing_of_another(transformer, build_planes, build_conditions):
    planes, conditions, other = build_planes(), build_conditions(), build_conditions(seed=1)
    another_past = replace(conditions, known_xy=other.known_xy, known_mask=other.known_mask, movers=other.movers)
    dropped = torch.tensor([True, False])
    first, second = (
        velocity(transformer, planes, given.without_known(dropped)) for given in (conditions, another_past)
    )
    assert not any(differ([v[0] for v in first], [v[0] for v in second]))
    assert all(differ([v[1] for v in first], [v[1] for v in second]))


def test_a_request_in_a_batch_gives_what_it_gives_alone(transformer, build_planes, build_conditions):
    planes, conditions = build_planes(3), build_conditions(3)
    together = velocity(transformer, planes, conditions)
    for i in range(3):
        given = type(conditions)(*(value[i : i + 1] for value in vars(conditions).values()))
        alone = velocity(transformer, Planes(*(p[i : i + 1] for p in planes)), given)
        assert not any(differ([v[0] for v in alone], [v[i] for v in together]))


def test_repeated_conditions_stay_beside_each_other(build_conditions):
    conditions = build_conditions()
    repeated = conditions.repeated(3)
    assert len(repeated) == 6
    assert torch.equal(repeated.command, conditions.command[[0, 0, 0, 1, 1, 1]])
    assert torch.equal(repeated.known_xy, conditions.known_xy[[0, 0, 0, 1, 1, 1]])


def test_unpatching_undoes_patching(build_transformer, build_planes):
    """With identity weights, every value comes back to the cell it was taken from."""
    transformer = build_transformer()
    transformer.head_xy = torch.nn.Identity()
    identity = torch.eye(32)
    patchers = transformer.patch_xy, transformer.patch_tx, transformer.patch_ty
    unpatchers = transformer.unpatch_xy, transformer.unpatch_tx, transformer.unpatch_ty
    with torch.inference_mode():
        for patcher, unpatcher in zip(patchers, unpatchers, strict=True):
            patcher.weight.copy_(identity.view(32, 8, 2, 2))
            unpatcher.weight.copy_(identity)
            patcher.bias.zero_()
            unpatcher.bias.zero_()
        planes = build_planes()
        patched = [patcher(plane) for patcher, plane in zip(patchers, planes, strict=True)]
        tokens = torch.cat([rearrange(p, "b d h w -> b (h w) d") for p in patched], dim=1)
        back = transformer._unpatch(tokens, planes.xy)
    assert torch.allclose(back.xy[:, :8], planes.xy)
    assert torch.allclose(back.tx, planes.tx)
    assert torch.allclose(back.ty, planes.ty)


def test_gradients_reach_every_parameter(build_transformer, build_planes, build_conditions):
    transformer = build_transformer(layout=True).train()
    conditions = replace(build_conditions(), plan_given=torch.tensor([True, False]))
    found = transformer(build_planes(), torch.tensor([0.3, 0.8]), conditions)
    sum(v.square().mean() for v in found).backward()
    unreached = [n for n, p in transformer.named_parameters() if p.grad is None or not p.grad.any()]
    assert unreached == []


def test_path_maps_are_bright_on_the_path_and_say_when_it_passes():
    time = torch.linspace(-12, 12, 16)
    path = torch.stack([time, torch.zeros(16), torch.zeros(16)], dim=-1)[None]
    near, wide, passing = path_maps(path, 32, 32.0)[0]
    centres = cell_centres(32, 32.0)
    on_path = (centres[..., 1].abs() < 2) & (centres[..., 0].abs() < 12)
    assert float(near[on_path].min()) > 0.6
    assert float(near[centres[..., 1].abs() > 8].max()) < 1e-3
    assert (wide >= near).all()
    along = passing[:, 16][on_path[:, 16]]
    assert (along.diff() > 0).all()
    assert along[0] < -0.5
    assert along[-1] > 0.5


def test_normalisation_makes_unit_channels_and_undoes_itself(build_planes):
    generator = torch.Generator().manual_seed(0)
    planes = Planes(*(5 * p + torch.randn(1, 8, 1, 1, generator=generator) for p in build_planes(40)))
    statistics = {
        f"{name}_{moment}": getattr(plane, moment)(dim=(0, 2, 3)).tolist()
        for name, plane in zip(("xy", "tx", "ty"), planes, strict=True)
        for moment in ("mean", "std")
    }
    normalisation = Normalisation(8, statistics)
    normalised = normalisation.normalise(planes)
    for plane in normalised:
        assert torch.allclose(plane.mean(dim=(0, 2, 3)), torch.zeros(8), atol=1e-4)
        assert torch.allclose(plane.std(dim=(0, 2, 3)), torch.ones(8), atol=1e-4)
    for back, plane in zip(normalisation.denormalise(normalised), planes, strict=True):
        assert torch.allclose(back, plane, atol=1e-4)


@pytest.fixture(scope="module")
def rolled(build_transformer):
    return build_transformer(layout=True, rollout=True)


class TestRollout:
    def test_lays_planes_that_share_an_axis_side_by_side(self):
        xy, tx, ty = torch.full((1, 4, 6, 5), 1.0), torch.full((1, 3, 2, 6), 2.0), torch.full((1, 3, 2, 5), 3.0)
        tx[..., 4], ty[..., 3] = 20.0, 30.0
        image = rolled_out(xy, tx, ty, shared=2)
        assert image.shape == (1, 5, 8, 7)
        first, of_xy, of_time = image[0, 0], image[0, 3], image[0, 4]
        assert (first[:6, :5] == 1).all()
        assert (first[4, 5:] == 20).all()
        assert (first[6:, 3] == 30).all()
        assert not first[6:, 5:].any()
        assert not of_xy[6:].any()
        assert not of_xy[:, 5:].any()
        assert not of_time[:6, :5].any()
        assert (of_time[:6, 5:] > 0).all()

    def test_undoes_itself(self, build_planes):
        planes = build_planes()
        back = unrolled(rolled_out(*planes, shared=8), pairs=8)
        assert all(torch.equal(a, b) for a, b in zip(back, planes, strict=True))

    def test_gives_tokens_to_planes_and_padding_at_places_of_one_image(self, rolled):
        cells = 16 // 2 + 8 // 2
        assert rolled.position.shape == (cells * cells, 32)
        assert torch.equal(rolled._positions(), position_embedding_2d(cells, cells, 32))
        assert len(rolled._positions().unique(dim=0)) == cells * cells

    def test_has_one_embedding_and_one_head(self, rolled):
        names = {name.split(".")[0] for name, _ in rolled.named_parameters()}
        assert {"patch_xy", "unpatch_xy"} <= names
        assert not {"patch_tx", "patch_ty", "unpatch_tx", "unpatch_ty"} & names

    def test_velocity_has_the_shapes_of_the_planes_and_depends_on_each_and_on_the_layout(
        self, rolled, build_planes, build_conditions
    ):
        planes, other, conditions = build_planes(), build_planes(seed=1), build_conditions()
        start = velocity(rolled, planes, conditions)
        assert [v.shape for v in start] == [p.shape for p in planes]
        for name in ("xy", "tx", "ty"):
            changed = replace(planes, **{name: getattr(other, name)})
            assert all(differ(start, velocity(rolled, changed, conditions)))
        assert all(differ(start, velocity(rolled, planes, replace(conditions, layout=0 * conditions.layout))))

    def test_velocity_is_zero_at_initialisation(self, build_transformer, build_planes, build_conditions):
        found = velocity(build_transformer(initial=True, rollout=True), build_planes(), build_conditions())
        assert not any(v.any() for v in found)

    def test_gradients_reach_every_parameter_and_lower_the_error(
        self, build_transformer, build_planes, build_conditions
    ):
        transformer = build_transformer(layout=True, rollout=True).train()
        optimiser = torch.optim.AdamW(transformer.parameters(), lr=3e-3)
        planes, times = build_planes(), torch.tensor([0.3, 0.8])
        conditions = replace(build_conditions(), plan_given=torch.tensor([True, False]))
        errors = []
        for _ in range(12):
            found = transformer(planes, times, conditions)
            error = sum((v - p).square().mean() for v, p in zip(found, planes, strict=True))
            optimiser.zero_grad()
            error.backward()
            unreached = [n for n, p in transformer.named_parameters() if p.grad is None or not p.grad.any()]
            assert unreached == []
            optimiser.step()
            errors.append(error.item())
        assert errors[-1] < 0.9 * errors[0]

    def test_needs_one_size_of_patch(self):
        with pytest.raises(ConfigError, match="time_patch"):
            DiffusionTransformerConfig(patch=2, time_patch=4, rollout=True)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"patch": 3}, "patch"),
        ({"time_patch": 3}, "time_patch"),
        ({"rollout": True, "patch": 5, "time_patch": 5}, "patch"),
    ],
    ids=str,
)
def test_patches_that_planes_cannot_be_cut_into_are_refused(tiny, change, field):
    with pytest.raises(ConfigError, match=rf"^model\.{field}: got \d, expected a divisor of"):
        DiffusionTransformer(replace(tiny.transformer, **change), tiny.autoencoder)
