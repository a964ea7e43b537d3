"""How far apart two sets of features are: Fréchet and kernel distances, precision, recall, density, coverage."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.linalg import eigvals
from scipy.spatial.distance import cdist

from dyncity_sim.errors import InvalidInputError

Features = Float64[np.ndarray, "N F"]
Drives = Int64[np.ndarray, " N"]

NEIGHBOURS = 5
"""k of the neighbourhoods that stand for a set's manifold, as Naeem et al. recommend."""


@dataclass(frozen=True)
class SetDistance:
    """How a generated set of features differs from a recorded one.

    Attributes:
        fid: Fréchet distance of normal distributions; depends on how many samples there are.
        kid: unbiased squared maximum mean discrepancy; near 0, and as often below, for equal distributions. NaN when a
            set is of one drive.
        precision: share of generated samples within the recorded manifold: they look real.
        recall: share of recorded samples within the generated manifold: everything occurs.
        density: how deep in the recorded manifold generated samples lie; for equal distributions 1 if samples are
            independent, less if several are of one drive.
        coverage: share of recorded samples that have a generated one in their neighbourhood; for equal distributions
            0.97 if samples are independent, less if several are of one drive.
        samples: of the smaller set.
    """

    fid: float
    kid: float
    precision: float
    recall: float
    density: float
    coverage: float
    samples: int


def set_distance(
    generated: Features, recorded: Features, generated_of: Drives | None = None, recorded_of: Drives | None = None
) -> SetDistance:
    """All measures at once.

    Args:
        generated: samples.
        recorded: samples that they are compared with.
        generated_of: number of the drive that each is of; each is of its own by default.
        recorded_of: the same of recorded samples.

    Raises:
        InvalidInputError: fewer samples than the neighbourhoods need.
    """
    least = min(len(generated), len(recorded))
    if least <= NEIGHBOURS:
        raise InvalidInputError("samples", least, f"more than {NEIGHBOURS}", "Ask for more plans.")
    across = cdist(recorded, generated)
    radius_recorded, radius_generated = manifold_radii(recorded), manifold_radii(generated)
    within_recorded = across <= radius_recorded[:, None]
    return SetDistance(
        fid=frechet_distance(generated, recorded),
        kid=kernel_distance(generated, recorded, generated_of, recorded_of),
        precision=float(within_recorded.any(axis=0).mean()),
        recall=float((across <= radius_generated[None, :]).any(axis=1).mean()),
        density=float(within_recorded.sum(axis=0).mean() / NEIGHBOURS),
        coverage=float((across.min(axis=1) <= radius_recorded).mean()),
        samples=least,
    )


def frechet_distance(a: Features, b: Features) -> float:
    """Squared 2-Wasserstein distance between normal distributions of the same moments (Heusel et al. 2017)."""
    covariance_a, covariance_b = (np.cov(features, rowvar=False) for features in (a, b))
    # The trace of a square root is the sum of the roots of the eigenvalues, which are real and not negative.
    root_trace = np.sqrt(np.maximum(eigvals(covariance_a @ covariance_b).real, 0.0)).sum()
    apart = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return float(apart + np.trace(covariance_a) + np.trace(covariance_b) - 2 * root_trace)


def kernel_distance(a: Features, b: Features, a_of: Drives | None = None, b_of: Drives | None = None) -> float:
    """Unbiased squared MMD under the kernel ``(x . y / F + 1)^3`` (Binkowski et al. 2018).

    Pairs of one drive are left out, as those of a sample with itself are: what is alike because it is of one drive
    would make equal distributions seem apart. NaN when a set is of one drive.

    Args:
        a: samples.
        b: other samples.
        a_of: number of the drive that each of ``a`` is of; each is of its own by default.
        b_of: the same of ``b``.
    """

    def kernel(x: Features, y: Features) -> Float64[np.ndarray, "N M"]:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def mean_of_others(x: Features, of: Drives | None) -> float:
        of = np.arange(len(x)) if of is None else of
        others = kernel(x, x)[of[:, None] != of[None, :]]
        return float(others.mean()) if len(others) else float("nan")

    return mean_of_others(a, a_of) + mean_of_others(b, b_of) - 2 * float(kernel(a, b).mean())


def manifold_radii(features: Features) -> Float64[np.ndarray, " N"]:
    """Distance of each sample to its k-th nearest other (Kynkaanniemi et al. 2019; Naeem et al. 2020)."""
    # The nearest of all is the sample itself.
    return np.partition(cdist(features, features), NEIGHBOURS, axis=1)[:, NEIGHBOURS]


@dataclass(frozen=True)
class Memorisation:
    """Whether generated samples are nearer to what was trained on than recordings of other towns are.

    Attributes:
        generated: median distance of generated samples to the nearest training sample.
        held_out: the same of held-out samples.
        copies: share of generated samples nearer to a training sample than 95 % of the held-out ones are; 0.05 is
            what held-out samples themselves have.
    """

    generated: float
    held_out: float
    copies: float


def memorisation(generated: Features, held_out: Features, training: Features) -> Memorisation:
    """Distances to the nearest training sample."""
    nearest, nearest_held_out = (cdist(features, training).min(axis=1) for features in (generated, held_out))
    copies = float((nearest < np.quantile(nearest_held_out, 0.05)).mean())
    return Memorisation(float(np.median(nearest)), float(np.median(nearest_held_out)), copies)
