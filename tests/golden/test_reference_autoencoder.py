"""The autoencoder gives the reference implementation's numbers."""

import numpy as np
import torch
from dyncity_models.evaluation.scores import class_iou, confusion_matrix, mean_iou
from dyncity_models.reference.config import PLANES
from dyncity_models.reference.labels import layout_of
from dyncity_models.reference.planes import HexPlanes, pack, rollout_mask, unpack
from dyncity_models.training.reference_losses import autoencoder_losses, class_weights


def means_of(vae):
    return HexPlanes(*(vae.tensor(f"mu_{name}") for name in PLANES))


def test_latents_equal_those_of_the_reference(vae, deviation):
    means, log_variances = vae.autoencoder.encode(vae.tensor("voxels"))
    for name, mean, log_variance in zip(PLANES, means, log_variances, strict=True):
        deviation(f"mu_{name}", mean, vae.tensor(f"mu_{name}"), 1e-6)
        deviation(f"logvar_{name}", log_variance, vae.tensor(f"logvar_{name}"), 2e-6)


def test_the_rollout_is_packed_as_the_reference_does(vae):
    means = means_of(vae)
    rollout = pack(means)
    assert torch.equal(rollout, vae.tensor("rollout"))
    assert torch.equal(rollout_mask(vae.autoencoder.config), vae.tensor("rollout_mask")[0, 0].bool())
    for plane, back in zip(means, unpack(rollout, vae.autoencoder.config), strict=True):
        assert torch.equal(plane, back)


def test_logits_and_labels_equal_those_of_the_reference(vae, deviation):
    planes = unpack(vae.tensor("rollout"), vae.autoencoder.config)
    frames = vae.tensor("logits_frames")
    deviation("logits", vae.autoencoder.decode(planes, frames), vae.tensor("logits"), 5e-5)
    labels = torch.cat(list(vae.autoencoder.decode_labels(planes)), dim=1)
    differ = labels != vae.tensor("argmax")
    assert not (differ & (vae.tensor("margin").float() >= 1e-3)).any()


def test_losses_and_scores_equal_those_of_the_reference(vae, deviation):
    truth = vae.tensor("voxels")
    means, log_variances = vae.autoencoder.encode(truth)
    logits = vae.autoencoder.decode(means)
    weights = class_weights(vae.model.config.classes, vae.autoencoder.config.classes)
    torch.testing.assert_close(weights, vae.tensor("ce_weight"), rtol=1e-5, atol=0)
    kl_weight = vae.conf["model"]["loss_weights"]["kl"]
    losses = autoencoder_losses(logits, truth, means, log_variances, weights, kl_weight)
    deviation("loss_ce", losses.cross_entropy, vae.tensor("loss_ce"), 2e-6)
    deviation("loss_lovasz", losses.lovasz, vae.tensor("loss_lovasz"), 2e-6)
    deviation("loss_kl", losses.kl, vae.tensor("loss_kl"), 1e-6)
    deviation("loss", losses.total, vae.tensor("loss"), 3e-6)

    valid = vae.tensor("invalid") == 0
    confusion = confusion_matrix(truth[valid], vae.tensor("argmax")[valid], len(weights))
    deviation("miou", torch.tensor(100 * mean_iou(confusion)), vae.tensor("metric_miou"), 1e-4)
    present = confusion.sum(1) > 0
    per_class = 100 * class_iou(confusion)
    deviation("class_iou", per_class[present][1:], vae.tensor("metric_cls_iou")[present][1:], 1e-4)


def test_layouts_equal_those_of_the_reference(vae):
    for name, layout in vae.arrays.items():
        if name.startswith("layout_down"):
            down = int(name.removeprefix("layout_down"))
            np.testing.assert_array_equal(layout_of(vae.arrays["voxels"], down), layout, err_msg=name)
