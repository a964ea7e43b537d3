"""``dyncity train``, ``encode`` and ``evaluate``; torch is imported only when one of them runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dyncity_sim.cli.numbers import not_negative, positive
from dyncity_sim.extras import packages_of

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def register_train(subparsers: "Subparsers") -> None:
    """Add ``dyncity train vae|dit|distil|features``."""
    parser = subparsers.add_parser(
        "train",
        help="train the autoencoder (vae), the transformer (dit), one that samples in few steps (distil), or encoders "
        "for evaluation (features)",
        description="Train one half of a model, weights that sample in few steps from ones that take many, or an "
        "encoder that evaluation measures distances with. The key "
        "family of the configuration says which kind of model: anchored (the default) or reference. A killed run goes "
        "on from its newest checkpoint when started again.",
        epilog="examples:\n"
        "  dyncity train vae --config configs/anchored/vae.yaml data.train='[rec/a,rec/b]' data.validation='[rec/c]'\n"
        "  dyncity train dit --config configs/anchored/dit.yaml latents=out/latents/train optimiser.steps=2000\n"
        "  dyncity train distil --config configs/anchored/distil.yaml teacher=out/train/guide/export\n"
        "  dyncity train vae --config configs/reference/small/vae.yaml data.train='[CarlaSC/Train]'",
    )
    stages = parser.add_subparsers(dest="stage", required=True, metavar="vae|dit|distil|features")
    for stage, what in (
        ("vae", "the autoencoder"),
        ("dit", "the diffusion transformer"),
        ("distil", "a transformer of the family anchored that samples in few steps, from whole weights"),
        ("features", "an encoder of frames for evaluation: kind=voxels or kind=bev"),
    ):
        stage_parser = stages.add_parser(stage, help=f"train {what}", description=f"Train {what}.")
        stage_parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file; see configs/")
        stage_parser.add_argument(
            "overrides", nargs="*", metavar="key=value", help="a value of the configuration; all after --config"
        )
        stage_parser.set_defaults(run=_train)


def register_encode(subparsers: "Subparsers") -> None:
    """Add ``dyncity encode``."""
    parser = subparsers.add_parser(
        "encode",
        help="encode recordings into latents for training the transformer",
        description="What is encoded depends on the family of the autoencoder: anchored reads recordings, reference "
        "anything that dyncity inspect reads. Killed, it goes on with the shards that are missing when started again.",
        epilog="examples:\n"
        "  dyncity encode rec/a rec/b --autoencoder out/train/vae/export --out out/latents/train\n"
        "  dyncity encode rec/a rec/b ... --part 1/2 & dyncity encode rec/a rec/b ... --part 2/2; wait",
    )
    parser.add_argument(
        "recordings", nargs="+", type=Path, metavar="PATH", help="folders written by dyncity record, or data sets"
    )
    parser.add_argument(
        "--autoencoder", type=Path, required=True, metavar="DIR", help="folder of exported autoencoder weights"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the latents")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the chunks that are drawn (default: 0)")
    parser.add_argument(
        "--chunks-per-drive", type=int, default=1, metavar="N", help="random chunks of each drive (default: 1)"
    )
    parser.add_argument(
        "--samples-per-shard",
        type=int,
        default=1024,
        metavar="N",
        help="most chunks of a shard, mirror images too (default: 1024)",
    )
    parser.add_argument(
        "--part", default="1/1", metavar="I/N", help="make every Nth shard alone, from the Ith on (default: 1/1)"
    )
    parser.add_argument(
        "--known-world",
        choices=("remembered", "foreseen"),
        help="where what is known of the world has holes, in the family anchored: where movers stood before a chunk, "
        "or where they are in it (default: as the transformer beside the autoencoder learnt; without one, remembered)",
    )
    parser.set_defaults(run=_encode)


def register_evaluate(subparsers: "Subparsers") -> None:
    """Add ``dyncity evaluate``."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure reconstruction and generation against recordings",
        description="Reconstruction, class shares, adherence to plans and layouts, rigidity, shapes, vehicles over "
        "time, distances between sets of frames, copies, drift of drives; recorded figures stand beside.",
        epilog="examples:\n"
        "  dyncity evaluate rec/town02 --plans 100 --json out/evaluation.json --picture out/evaluation.png\n"
        "  dyncity evaluate rec/town02 --plans-from rec/grid rec/berlin --keep out/chunks   goes on when run again\n"
        "  dyncity evaluate rec/town02 --training rec/grid rec/random                      looks for copies",
    )
    parser.add_argument(
        "recordings", nargs="+", type=Path, metavar="PATH", help="recordings of towns the weights never saw"
    )
    parser.add_argument(
        "--plans-from", nargs="+", type=Path, metavar="PATH", help="recordings to take plans from (default: the same)"
    )
    parser.add_argument(
        "--training",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="recordings the weights were trained on, to look for copies of",
    )
    parser.add_argument("--weights", type=Path, metavar="DIR", help="weights folder (default: the bundled ones)")
    parser.add_argument(
        "--plans",
        type=positive,
        metavar="N",
        default=100,
        help="most chunks to generate, one of each drive (default: 100)",
    )
    parser.add_argument(
        "--turns",
        type=not_negative,
        metavar="N",
        default=100,
        help="turning plans to check the command with, in all (default: 100)",
    )
    parser.add_argument(
        "--clips",
        type=positive,
        metavar="N",
        default=60,
        help="most chunks to reconstruct, one of each drive (default: 60)",
    )
    parser.add_argument(
        "--drives",
        type=not_negative,
        metavar="N",
        default=4,
        help="drives of eight chunks, evenly spread over long recorded ones (default: 4)",
    )
    parser.add_argument(
        "--steps", type=positive, metavar="N", help="network evaluations per chunk (default: the model's)"
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of the backend, as of dyncity serve, e.g. sampling.autoguidance=1.5; may be repeated",
    )
    parser.add_argument(
        "--seed", type=not_negative, metavar="S", default=0, help="of plans' chunks and of intervals (default: 0)"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep generated chunks here, to go on from when stopped"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="also draw generated beside recorded chunks here (PNG)"
    )
    parser.set_defaults(run=_evaluate)


def _train(arguments: argparse.Namespace) -> int:
    with packages_of(__name__, "Training"):
        from dyncity_models.training.ending import told_at_the_end
        from dyncity_models.training.families import train
        from dyncity_models.training.launch import is_first_process
    from dyncity_sim.cli.signals import terminated_like_interrupted

    with terminated_like_interrupted():
        weights = train(arguments.stage, arguments.config, arguments.overrides)
    if is_first_process():
        print("\n".join(told_at_the_end(arguments.stage, weights)))
    return 0


def _encode(arguments: argparse.Namespace) -> int:
    with packages_of(__name__, "Encoding"):
        from dyncity_models.data.encode_shards import Part
        from dyncity_models.family import family_of
        from dyncity_models.training.families import encode

    counts = encode(
        arguments.recordings,
        arguments.autoencoder,
        arguments.out,
        arguments.seed,
        arguments.chunks_per_drive,
        arguments.samples_per_shard,
        Part.named(arguments.part),
        arguments.known_world,
    )
    print("encoded chunks: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    if "shards to come" not in counts:
        family = family_of(arguments.autoencoder)
        which = f"family={family} autoencoder={arguments.autoencoder} latents={arguments.out} validation_latents=..."
        print(f"latents:  {arguments.out}\ntrain:    dyncity train dit {which}")
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    with packages_of(__name__, "Evaluation"):
        from dyncity_models.evaluation.report import evaluate

    return evaluate(arguments)
