"""What a student learns of its teacher."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.anchored.checkpoint import load_model, save_model
from dyncity_models.conditioning import PUSHED
from dyncity_models.config import SamplingConfig
from dyncity_models.data.latents import Latents
from dyncity_models.diffusion.flow import noise_like
from dyncity_models.normalisation import Normalisation
from dyncity_models.training.config import DistilLossConfig, DistilTrainingConfig
from dyncity_models.training.distil_task import DistilTask
from dyncity_models.training.teacher import Teacher
from torch import nn

CPU = torch.device("cpu")


@pytest.fixture
def taught_by(brief_run):
    """A function that builds the task of a student of some weights."""

    def build(folder, **changes):
        config = DistilTrainingConfig(sampling=SamplingConfig(steps=4, shift=3.0), run=brief_run, **changes)
        return DistilTask(config, Teacher(load_model(folder), CPU, brief_run)).eval()

    return build


@pytest.fixture
def lesson(build_planes, build_conditions):
    """Data, noise, windows, shares of them, and conditions of four chunks."""
    conditions = build_conditions(4).without("layout")
    return build_planes(4, 1), build_planes(4, 2), torch.arange(4), torch.tensor([0.0, 0.3, 0.6, 0.9]), conditions


@torch.no_grad()
def losses_of(task, lesson):
    return [float(value) for value in task.losses(*lesson).values()]


@pytest.fixture
def straight_weights(tiny, build_autoencoder, build_transformer, tmp_path):
    """Weights whose velocity is the same everywhere, so that all their paths are straight."""
    transformer = build_transformer(initial=True)
    generator = torch.Generator().manual_seed(0)
    for layer in (transformer.head_xy[-1], transformer.unpatch_tx, transformer.unpatch_ty):
        nn.init.normal_(layer.bias, generator=generator)
    save_model(tmp_path / "straight", tiny, build_autoencoder(), transformer, Normalisation(8))
    return tmp_path / "straight"


def test_a_student_of_a_teacher_whose_paths_are_straight_has_nothing_to_learn(taught_by, straight_weights, lesson):
    task = taught_by(straight_weights)
    assert losses_of(task, lesson) == pytest.approx([0.0] * 3, abs=1e-9)
    with torch.no_grad():
        task.transformer.unpatch_tx.bias += 1.0
    assert losses_of(task, lesson) == pytest.approx([0.0, 1.0, 0.0], abs=1e-6)


def test_a_student_begins_as_its_teacher_and_learns_where_paths_bend(taught_by, weights, lesson):
    data, noise, windows, _, conditions = lesson
    at_the_start = data, noise, windows, torch.zeros(4), conditions
    assert losses_of(taught_by(weights, evaluations=1), at_the_start) == pytest.approx([0.0] * 3, abs=1e-9)
    assert min(losses_of(taught_by(weights, evaluations=4), at_the_start)) > 1e-5


def test_the_teachers_autoguidance_is_learned(taught_by, build_guided_weights, lesson):
    data, noise, _, _, conditions = lesson
    conditions = conditions.without_known(torch.tensor([True, False, True, False]))
    over_time = torch.tensor([0.5, 1.0, 0.5, 1.0])[:, None, None, None]
    task = taught_by(build_guided_weights(autoguidance=2.5, autoguidance_time=0.5), evaluations=1)
    model = task.teacher.model
    with torch.inference_mode():
        good = model.transformer(noise, torch.ones(4), conditions)
        weak = model.guide(noise, torch.ones(4), conditions.without(*PUSHED))
        led = [w + scale * (g - w) for g, w, scale in zip(good, weak, (2.5, over_time, over_time), strict=True)]
    path = task.path(data, noise, torch.zeros(4, dtype=torch.int64), conditions)
    for found, expected, alone in zip(data.shaped(path.velocity), led, good, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        assert not torch.allclose(found, alone, atol=1e-2)


def test_the_teachers_guidance_is_learned(taught_by, tiny, build_autoencoder, build_transformer, tmp_path, lesson):
    data, noise, _, _, conditions = lesson
    config = replace(tiny, sampling=replace(tiny.sampling, guidance_scale=3.0))
    save_model(tmp_path / "guided", config, build_autoencoder(), build_transformer(), Normalisation(8))
    task = taught_by(tmp_path / "guided", evaluations=1)
    with torch.inference_mode():
        full, known_only = (
            task.transformer(noise, torch.ones(4), given).flat()
            for given in (conditions, conditions.without("plan", "command"))
        )
    path = task.path(data, noise, torch.zeros(4, dtype=torch.int64), conditions)
    torch.testing.assert_close(path.velocity, known_only + 3.0 * (full - known_only), rtol=0, atol=1e-4)


def test_what_a_student_is_shown_begins_with_noise_in_the_first_window(taught_by, weights, lesson):
    data, noise, _, _, conditions = lesson
    path = taught_by(weights).path(data, noise, torch.arange(4), conditions)
    assert torch.equal(path.latents[0], noise.flat()[0])
    time = float(path.start[3])
    torch.testing.assert_close(path.latents[3], (1 - time) * data.flat()[3] + time * noise.flat()[3])


def test_the_teachers_weights_are_no_part_of_the_student(taught_by, build_guided_weights):
    task = taught_by(build_guided_weights(autoguidance=2.0))
    assert {name.split(".")[0] for name in task.state_dict()} == {"transformer", "normalisation"}
    assert all(
        not any(own is other for other in task.teacher.pipeline.transformer.parameters())
        for own in task.transformer.parameters()
    )


@pytest.mark.parametrize(("at_start", "least", "most"), [(1.0, 64, 64), (0.5, 16, 48), (0.0, 0, 0)])
def test_a_share_of_the_samples_is_learned_where_a_step_of_the_student_begins(
    taught_by, weights, latents, at_start, least, most
):
    seen = []
    task = taught_by(weights, loss=DistilLossConfig(at_start=at_start))
    task.losses = lambda *lesson: seen.append(lesson) or dict.fromkeys(("xy", "tx", "ty"), torch.zeros(()))
    task.log_dict = lambda *arguments, **options: None
    task.training_step(Latents(latents, CPU).rows(np.zeros(64)), 0)
    ((_, _, numbers, passed, conditions, _),) = seen
    assert least <= int((passed == 0.0).sum()) <= most
    assert 0.0 <= float(passed.min()) <= float(passed.max()) < 1.0
    assert set(numbers.tolist()) == {0, 1, 2, 3}
    assert conditions.plan_given.all()
    assert 0 < int((conditions.command == 4).sum()) < 64


def test_a_student_samples_with_steps_of_euler_and_no_guidance(taught_by, weights, lesson):
    _, noise, _, _, conditions = lesson
    task = taught_by(weights)
    with torch.inference_mode():
        plain = task.teacher.sample(conditions, noise, "euler", 4, 3.0)
        torch.testing.assert_close(task.sample(conditions, noise), plain)


def test_validation_says_how_far_student_and_teacher_are_from_many_steps(taught_by, weights, latents):
    task = taught_by(weights, limit_steps=12, loss=DistilLossConfig(drop_command=0.0, drop_known=0.0))
    with torch.no_grad():
        task.transformer.unpatch_tx.bias += 1.0
    batches = [Latents(latents, CPU).rows(rows) for rows in (np.arange(4), np.arange(4, 6))]
    logged = {}
    task.log = lambda name, value, **options: logged.update({name: value})
    with torch.inference_mode():
        for number, batch in enumerate(batches):
            task.validation_step(batch, number)
        task.on_validation_epoch_end()
        samples = []
        for number, batch in enumerate(batches):
            data, conditions = task.unpack(batch)
            noise = noise_like(data, torch.Generator().manual_seed(number))
            limit, brief = (task.teacher.sample(conditions, noise, n, s, 1.0) for n, s in (("unipc", 12), ("euler", 4)))
            samples.append((limit, brief, task.sample(conditions, noise)))
    limit, brief, student = (torch.cat(parts) for parts in zip(*samples, strict=True))
    expected = {
        "val_distance": float((student - limit).norm() / limit.norm()),
        "val_distance_teacher": float((brief - limit).norm() / limit.norm()),
    }
    assert logged == pytest.approx(expected, rel=1e-5)
    assert logged["val_distance"] > 2 * logged["val_distance_teacher"] > 0.0
