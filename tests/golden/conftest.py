"""Runs of the reference implementation with inputs and outputs, from a folder shared/golden beside the checkout."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from dyncity_models.reference.autoencoder import ReferenceAutoencoder
from dyncity_models.reference.checkpoint import ReferenceModel
from dyncity_models.reference.conditions import ReferenceConditions
from dyncity_models.reference.dit import ReferenceTransformer
from dyncity_models.reference.import_run import import_run

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"


class Golden(NamedTuple):
    """Arrays of one run, by name, beside its ``conf.yaml`` and the model imported from its checkpoint."""

    name: str
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    conf: dict[str, Any]
    model: ReferenceModel

    def tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])

    @property
    def autoencoder(self) -> ReferenceAutoencoder:
        return self.model.autoencoder

    @property
    def transformer(self) -> ReferenceTransformer:
        assert self.model.transformer is not None
        return self.model.transformer

    @property
    def conditions(self) -> ReferenceConditions:
        """Those of both samples, as far as the run has them."""
        names = ("in_traj", "in_cmd", "in_layout", "in_hex")
        return ReferenceConditions(*(self.tensor(name) if name in self.arrays else None for name in names))

    @property
    def first_conditions(self) -> ReferenceConditions:
        """Those of sample 0."""
        given = self.conditions
        return replace(given, **{name: getattr(given, name)[:1] for name in given.given()})


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    if not GOLDEN.is_dir():
        pytest.skip("no folder shared/golden beside the checkout")
    return GOLDEN


@pytest.fixture(scope="session")
def load_golden(golden_folder, tmp_path_factory):
    loaded = {}

    def load(file: str) -> Golden:
        if file not in loaded:
            folder, stem = (golden_folder / file).parent, Path(file).name
            meta = json.loads((folder / f"{stem}_meta.json").read_text())
            run = folder / "ckpts" / f"{meta['case']}_{stem}".upper()
            out = tmp_path_factory.mktemp("imported") / run.name
            model = import_run(run, out, heads=meta.get("heads"))
            conf = yaml.safe_load((run / "conf.yaml").read_text())
            with np.load(folder / f"{stem}.npz") as arrays:
                loaded[file] = Golden(file, dict(arrays), meta, conf, model)
        return loaded[file]

    return load


def runs_with(pattern: str) -> list[str]:
    """Golden files by pattern, as parameters of a test; one that skips when there are none."""
    found = sorted(str(file.relative_to(GOLDEN))[: -len(".npz")] for file in GOLDEN.glob(pattern))
    return found or ["none"]


def pytest_generate_tests(metafunc):
    for fixture, pattern in (("vae", "*/vae.npz"), ("dit", "*/dit*.npz")):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, runs_with(pattern), indirect=True)


@pytest.fixture
def vae(request, load_golden) -> Golden:
    """Each golden run of an autoencoder."""
    return load_golden(request.param)


@pytest.fixture
def dit(request, load_golden) -> Golden:
    """Each golden run of a transformer."""
    return load_golden(request.param)


@pytest.fixture
def deviation(record_property, request):
    """A function that compares, prints and bounds the largest deviation."""

    def check(name: str, got: torch.Tensor, expected: torch.Tensor, bound: float) -> None:
        assert got.shape == expected.shape
        largest = float((got.double() - expected.double()).abs().max())
        record_property(name, largest)
        print(f"\ndeviation {request.node.callspec.id} {name} {largest:.1e}")
        assert largest <= bound, name

    return check
