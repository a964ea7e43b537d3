"""The transformer, its guidance and its diffusion give the reference implementation's numbers."""

import torch
from dyncity_models.diffusion.gaussian import GaussianDiffusion
from dyncity_models.diffusion.sampling import make_sampler
from dyncity_models.reference.conditions import ReferenceConditions
from dyncity_models.reference.guidance import GuidedTransformer
from dyncity_models.reference.labels import command_of, trajectory_of
from dyncity_models.reference.planes import rollout_mask, unpack

NAMES = {"hex": "hexplane", "layout": "layout", "traj": "trajectory", "cmd": "command"}


def test_the_tokens_are_those_of_the_reference(dit):
    assert torch.equal(dit.transformer.tokens, dit.tensor("patch_mask").nonzero()[:, 0])


def test_conditions_made_of_poses_are_those_of_the_reference(dit, deviation):
    for poses, trajectory, command in zip(
        dit.arrays["poses"], dit.tensor("in_traj"), dit.arrays["in_cmd"], strict=True
    ):
        made = trajectory_of(poses)
        deviation("trajectory", torch.from_numpy(made).float(), trajectory, 1e-6)
        assert command_of(made, dit.model.convention.thresholds) == command


def test_predictions_equal_those_of_the_reference(dit, deviation):
    got = dit.transformer(dit.tensor("in_x"), dit.tensor("in_t"), dit.conditions)
    deviation("dit_out", got, dit.tensor("dit_out"), 1e-5)
    assert not got[..., ~rollout_mask(dit.autoencoder.config)].any()


def test_guided_predictions_equal_those_of_the_reference(dit, deviation):
    noisy, step = dit.tensor("in_x")[:1], dit.tensor("in_t_cfg")[:1]
    scale = dit.meta["cfg_scale"]
    got = GuidedTransformer(dit.transformer, dit.first_conditions, scale)(noisy, step)
    deviation("dit_cfg", got, dit.tensor("dit_cfg")[:1], 3e-5)
    without = GuidedTransformer(dit.transformer, ReferenceConditions(), scale)(noisy, step)
    # The log-variances of the reference's second row are those without conditions.
    fractions = (rows.chunk(2, dim=1)[1] for rows in (without, dit.tensor("dit_cfg")[1:]))
    deviation("dit_cfg_without", *fractions, 3e-5)
    for short, name in NAMES.items():
        if f"dit_cfg_drop_{short}" in dit.arrays:
            got = GuidedTransformer(dit.transformer, dit.first_conditions.without(name), scale)(noisy, step)
            deviation(f"dit_cfg_drop_{short}", got, dit.tensor(f"dit_cfg_drop_{short}")[:1], 3e-5)


def test_losses_equal_those_of_the_reference(dit, deviation):
    process, index = GaussianDiffusion.linear(), dit.tensor("in_t")
    data, noise = dit.tensor("in_x0"), dit.tensor("in_noise_train")
    predicted = dit.transformer(process.add_noise(data, noise, index), index, dit.conditions)
    squared, bound = process.losses(predicted, data, noise, index, rollout_mask(dit.autoencoder.config))
    deviation("train_mse", squared, dit.tensor("train_mse"), 1e-6)
    deviation("train_vb", bound, dit.tensor("train_vb"), 1e-6)
    deviation("train_loss", squared + bound, dit.tensor("train_loss"), 1e-6)


def test_the_schedule_of_the_loop_is_that_of_the_reference(dit):
    process = GaussianDiffusion.linear(dit.meta["steps"])
    for ours, theirs in (
        (process.timesteps, "timesteps"),
        (process.betas, "betas"),
        (process.alphas_cumprod, "alphas_cumprod"),
        (process.posterior_log_variance, "posterior_log_variance_clipped"),
        (process.from_data, "coef1"),
        (process.from_noisy, "coef2"),
    ):
        torch.testing.assert_close(torch.from_numpy(ours), dit.tensor(f"sched_{theirs}"), rtol=1e-12, atol=1e-15)


def sampled(dit, conditions, prefix):
    predict = GuidedTransformer(dit.transformer, conditions, dit.meta["cfg_scale"])
    recorded = iter(dit.tensor(f"{prefix}_step_noise")[:, :1])
    sampler = make_sampler("ddpm", "gaussian", dit.meta["steps"])
    return sampler.sample(predict, dit.tensor(f"{prefix}_noise_T"), lambda: next(recorded))


def check_sample(dit, deviation, sample, prefix):
    valid = rollout_mask(dit.autoencoder.config)
    deviation(f"{prefix}_sample", sample, dit.tensor(f"{prefix}_sample"), 2e-3)
    assert sample[..., valid].isfinite().all()
    labels = torch.cat(list(dit.autoencoder.decode_labels(unpack(sample, dit.autoencoder.config))), dim=1)
    differ = labels != dit.tensor(f"{prefix}_argmax")
    assert not (differ & (dit.tensor(f"{prefix}_margin").float() >= 1e-3)).any()


def test_a_sampled_chunk_equals_that_of_the_reference(dit, deviation):
    # The first chunk of a drive has no chunk before it.
    sample = sampled(dit, dit.first_conditions.without("hexplane"), "loop")
    check_sample(dit, deviation, sample, "loop")


def test_a_chunk_that_goes_on_from_another_equals_that_of_the_reference(dit, deviation):
    if "chain1_sample" not in dit.arrays:
        return
    given = dit.first_conditions
    conditions = ReferenceConditions(given.trajectory, given.command, given.layout, dit.tensor("in_hex_chain1"))
    check_sample(dit, deviation, sampled(dit, conditions, "chain1"), "chain1")
