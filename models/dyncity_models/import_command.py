"""``dyncity import-checkpoint``; torch is imported only when it runs."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dyncity_sim.extras import packages_of

if TYPE_CHECKING:
    from dyncity_models.reference.checkpoint import ReferenceModel

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def register_import(subparsers: "Subparsers") -> None:
    """Add ``dyncity import-checkpoint``."""
    parser = subparsers.add_parser(
        "import-checkpoint",
        help="turn a run of the published DynamicCity code into weights of the family reference",
        description="Reads conf.yaml and a checkpoint without unpickling code, and writes safetensors. The run of a "
        "diffusion transformer is imported together with the autoencoder that it names.",
        epilog="examples:\n"
        "  dyncity import-checkpoint ckpts/DYNAMIC_CITY_VAE --out weights/vae\n"
        "  dyncity import-checkpoint ckpts/DYNAMIC_CITY_DIT --out weights/city --checkpoint 0200000.ckpt",
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="folder with conf.yaml and checkpoints")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--checkpoint", metavar="FILE", help="file in RUN_DIR to take (default: last.ckpt)")
    parser.add_argument(
        "--vae", type=Path, metavar="DIR", help="run of the autoencoder (default: beside RUN_DIR, as conf.yaml says)"
    )
    parser.add_argument("--vae-checkpoint", metavar="FILE", help="file of that run to take (default: last.ckpt)")
    parser.add_argument("--heads", type=int, metavar="N", help="attention heads of a transformer of no published size")
    parser.set_defaults(run=_import)


def _import(arguments: argparse.Namespace) -> int:
    with packages_of(__name__, "Importing"):
        from dyncity_models.reference.classes import taxonomy_of
        from dyncity_models.reference.import_run import import_run

    model = import_run(
        arguments.run_dir,
        arguments.out,
        checkpoint=arguments.checkpoint,
        autoencoder_run=arguments.vae,
        autoencoder_checkpoint=arguments.vae_checkpoint,
        heads=arguments.heads,
    )
    taxonomy = taxonomy_of(model.config.classes, model.config.autoencoder.classes)
    for fact in _understood(model, taxonomy.id):
        print(fact)
    print(f"weights: {arguments.out}")
    return 0


def _understood(model: "ReferenceModel", taxonomy_id: str) -> Iterator[str]:
    autoencoder, space, transformer = model.config.autoencoder, model.config.space, model.config.transformer
    for name, module in (("autoencoder", model.autoencoder), ("transformer", model.transformer)):
        if module is not None:
            yield f"{name}: {sum(p.numel() for p in module.parameters()):,} parameters"
    cells, size_m = (" x ".join(f"{n:g}" for n in three) for three in (autoencoder.grid, space.voxel_size_m))
    classes = f"{autoencoder.classes} classes ({taxonomy_id})"
    yield f"chunks: {autoencoder.frames} frames at {space.rate_hz:g} Hz, {cells} cells of {size_m} m, {classes}"
    if model.transformer is not None:
        yield f"conditions: {', '.join(transformer.conditions) or 'none'}; {transformer.heads} attention heads"
    yield f"convention: {model.convention.name}"
