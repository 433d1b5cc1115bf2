"""Fit the readout of a trained student further, on stored crops: it gives segments their names.

Nothing before the readout changes, so what the readout sees of a crop is computed once: segment tokens and pooled
features, and of the targets what the losses need. A step then costs little, and the readout gets many more of them. The
losses are those of training that reach the readout (segment_name, place, image_name), with the run's weights.

    python training/refit_readout.py runs/everyday/model.pt --run runs/everyday -o runs/everyday-readout
"""

import sys
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import click

try:
    import zeroseg  # noqa: F401
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

import torch

from zeroseg.errors import ZerosegError

LEAST = 1e-6


@dataclass(frozen=True)
class Crops:
    """What the readout sees of n crops, and their targets; K segments and one more, the whole crop. All float32 on the
    CPU, or float16 where stored() says so.

    tokens  (n, K + 1, C).
    pooled  (n, K + 1, Q) the stem's head features, averaged over the segment.
    target  (n, K + 1, D) mean target of the segment's places.
    share   (n, K) share of the places in each segment; rows sum to 1.
    overlap (n, K, K) mean over the places of the product of two segments' maps.
    square  (n,) mean over the places of the squared length of the targets.
    """

    tokens: torch.Tensor
    pooled: torch.Tensor
    target: torch.Tensor
    share: torch.Tensor
    overlap: torch.Tensor
    square: torch.Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, rows: torch.Tensor) -> "Crops":
        """The crops of these rows, in float32."""
        return Crops(*(getattr(self, field.name)[rows].float() for field in fields(self)))


@torch.no_grad()
def stored(student, batch, config) -> Crops:
    """The crops of a training batch of a run with this config; the large arrays as float16."""
    from zeroseg.model.readout import StemContext
    from zeroseg.training.diffusion import diffuse_targets
    from zeroseg.training.objective import spreads

    features = student.stem(batch.image)
    output = student(None, stem_features=features)
    pooled_BKQ, photo_B1Q = student.readout.pool(output.soft_map, StemContext(features, student.stem, None))
    dense_BLD = diffuse_targets(batch.dense, *features, config.diffusion) if spreads(config) else batch.dense
    tokens_BKC, map_BLK, target_BLD = output.segment_tokens, output.soft_map, dense_BLD.float()
    share_BK = map_BLK.mean(dim=1)
    mean_BKD = map_BLK.transpose(1, 2) @ target_BLD / map_BLK.sum(dim=1).clamp_min(LEAST)[:, :, None]
    return Crops(
        torch.cat([tokens_BKC, tokens_BKC.mean(dim=1, keepdim=True)], dim=1).half(),
        torch.cat([pooled_BKQ, photo_B1Q], dim=1).half(),
        torch.cat([mean_BKD, target_BLD.mean(dim=1, keepdim=True)], dim=1).half(),
        share_BK,
        map_BLK.transpose(1, 2) @ map_BLK / map_BLK.shape[1],
        target_BLD.square().sum(dim=2).mean(dim=1),
    )


def readout_losses(embeddings_BKD: torch.Tensor, crops: Crops) -> dict[str, torch.Tensor]:
    """{name: float32 scalar}: the losses of zeroseg.training.objective that reach the readout.

    embeddings  (B, K + 1, D) float32, the last one of the whole crop.
    """
    segments_BKD, whole_BD = embeddings_BKD[:, :-1], embeddings_BKD[:, -1]
    target_BKD, mean_BD = crops.target[:, :-1], crops.target[:, -1]
    square = crops.square.mean().clamp_min(LEAST)
    error_BK = (segments_BKD - target_BKD).square().sum(dim=2)
    # sum over the places of |sum_k M_k e_k - T|^2, without the places
    own_B = (crops.overlap * (segments_BKD @ segments_BKD.transpose(1, 2))).sum(dim=(1, 2))
    both_B = (crops.share * (segments_BKD * target_BKD).sum(dim=2)).sum(dim=1)
    return {
        "segment_name": (crops.share * error_BK).sum(dim=1).mean() / square,
        "place": (own_B - 2 * both_B + crops.square).mean() / square,
        "image_name": (whole_BD - mean_BD).square().sum(dim=1).mean()
        / mean_BD.square().sum(dim=1).mean().clamp_min(LEAST),
    }


@dataclass(frozen=True)
class Refit:
    """The settings of a fit: crops to store; steps, crops of a step and peak learning rate of AdamW."""

    crops: int = 8000
    steps: int = 1000
    batch: int = 96
    lr: float = 5e-4


def refit(path: Path, run: Path, out: Path, settings: Refit, threads: int | None = None) -> Path:
    """Fit the readout of the student in path and write out/model.pt, config.json and the curve. ZerosegError in one
    line when it cannot be done. threads: of torch; None as it is."""
    from zeroseg.model.checkpoint import load_model, save_checkpoint
    from zeroseg.training.pictures import draw_curve
    from zeroseg.training.run_folder import RunFolder

    if threads:
        torch.set_num_threads(threads)
    student, sidecar = load_model(path)
    if student.config.readout != "prototypes":
        raise ZerosegError(f"{path}: expected a model with the readout prototypes, got {student.config.readout}")
    made_of = RunFolder(run).read_config()
    folder = RunFolder(out)
    folder.begin()
    folder.write_config(made_of | {"refit": asdict(settings)})
    try:
        training, held_out, config = find_crops(made_of, student, settings)
    except ZerosegError:
        folder.abandon()
        raise
    fit(student, training, held_out, config, settings, folder)
    save_checkpoint(out / "model.pt", student, sidecar=sidecar)
    folder.write_image("curve.png", draw_curve(out / "curve.csv"))
    return out / "model.pt"


def find_crops(made_of: dict, student, settings: Refit):
    """(crops to fit on, crops of held-out photos, the run's config), from the caches of a run (its config.json).

    ZerosegError where the run has no such caches, or another embedding space than the student.
    """
    from zeroseg.training.batches import TrainingSet, split_rows
    from zeroseg.training.build_teacher import build_teacher
    from zeroseg.training.distill import Inputs, find_labels, find_source, find_targets
    from zeroseg.training.photos import PhotoSet
    from zeroseg.training.progress import progress_bar
    from zeroseg.training.rare import names_present, repeat_rare
    from zeroseg.training.recipes import TrainConfig
    from zeroseg.training.teachers.build import name_vectors

    config, inputs = TrainConfig.from_dict(made_of["config"]), Inputs(**made_of["inputs"])
    photos = find_source(config, inputs)
    if not isinstance(photos, PhotoSet) or not config.views.dense_grid:
        raise ZerosegError(
            "run: expected a folder of photos and dense targets, as in the recipes imagenet and everyday"
        )
    teacher = build_teacher(config.teacher, find_labels(inputs), "cpu")
    own = student.config.embedding_space
    if teacher.space != own:
        raise ZerosegError(f"run: its teacher has the space {teacher.space}, the model {own}; give the model's own run")
    cache = find_targets(photos, teacher, config, replace(inputs, cached_only=True), 1, True)
    rows, held_out = split_rows(cache.rows, config.val_photos, config.seed)
    if config.repeat_share:
        names = name_vectors(teacher.space, teacher.centre).things
        rows = repeat_rare(rows, names_present(cache.dense, rows, names), config.repeat_share, config.seed)
    steps = -(-settings.crops // config.batch)
    student.eval()

    def gathered(data, count: int, progress: bool) -> Crops:
        parts = []
        with progress_bar("crops", "crop", count * config.batch, 0, progress) as bar:
            for step in range(count):
                parts.append(stored(student, data[step], config))
                bar.update(config.batch)
        return Crops(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Crops)))

    again = replace(config, seed=config.seed + 1, stem_views=0)  # other crops than those of training
    training = gathered(TrainingSet(photos, cache, rows, again, steps, student.config.patch_size), steps, True)
    kept = replace(again, batch=min(config.batch, len(held_out)))
    seen = gathered(TrainingSet(photos, cache, held_out, kept, 8, student.config.patch_size), 8, False)
    return training, seen, config


def fit(student, training: Crops, held_out: Crops, config, settings: Refit, folder) -> None:
    """Fit student.readout in place; the losses on the crops of held-out photos are in the curve, ten times."""
    from zeroseg.training.loop import Average, Plan, build_optimizer, learning_rate
    from zeroseg.training.progress import progress_bar

    readout, stem = student.readout, student.stem
    student.requires_grad_(False)
    readout.requires_grad_(True)
    weights = {name: getattr(config.losses, name) for name in ("segment_name", "place", "image_name")}
    own = replace(config, lr=settings.lr, lr_per_photos=0)
    plan = Plan(settings.steps, settings.steps, settings.steps // 20)
    optimizer, average = build_optimizer(readout, own), Average(readout, 0.99)
    generator = torch.Generator().manual_seed(config.seed)
    columns = ["lr", "seconds", "total", *weights, "val_total", *(f"val_{name}" for name in weights)]
    curve, began = folder.curve(columns, 0), time.monotonic()

    def losses(crops: Crops) -> tuple[torch.Tensor, dict]:
        photo_B1Q = crops.pooled[:, -1:]
        embeddings = readout.embed(crops.tokens, crops.pooled, photo_B1Q, stem)
        values = readout_losses(embeddings, crops)
        return sum(weights[name] * value for name, value in values.items()), values

    def of_held_out() -> dict:
        mine = {name: p.detach().clone() for name, p in readout.named_parameters()}
        readout.load_state_dict(average.values, strict=False)
        with torch.no_grad():
            total, values = losses(held_out.take(torch.arange(len(held_out))))
        readout.load_state_dict(mine, strict=False)
        return {"val_total": total.item()} | {f"val_{name}": value.item() for name, value in values.items()}

    with progress_bar("fitting", "step", settings.steps, 0, True) as bar:
        for step in range(settings.steps):
            row = of_held_out() if step == 0 else {}
            for group in optimizer.param_groups:
                group["lr"] = lr = learning_rate(own, plan, step)
            crops = training.take(torch.randint(len(training), (settings.batch,), generator=generator))
            total, values = losses(crops)
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            optimizer.step()
            average.update(readout, step)
            if (step + 1) % max(1, settings.steps // 10) == 0 or step + 1 == settings.steps:
                row = of_held_out()
            row |= {"lr": lr, "seconds": time.monotonic() - began, "total": total.item()}
            curve.add(step + 1, row | {name: value.item() for name, value in values.items()})
            bar.set_postfix(loss=f"{total.item():.4f}", refresh=False)
            bar.update()
    curve.close()
    readout.load_state_dict(average.values, strict=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.pt")
@click.option("--run", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The run that trained it.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="A new folder.")
@click.option("--crops", type=click.IntRange(1), default=Refit.crops, metavar="N", help="Crops to store and fit on.")
@click.option("--steps", type=click.IntRange(1), default=Refit.steps, metavar="N", help="Steps of the optimiser.")
@click.option("--batch", type=click.IntRange(1), default=Refit.batch, metavar="N", help="Crops of a step.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), default=Refit.lr, help="Peak learning rate.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads of torch; default: torch's.")
def main(model, run, out, threads, **settings):
    """Fit the readout of MODEL further, on crops of the photos that it was trained on.

    \b
    Example:
      python training/refit_readout.py runs/everyday/model.pt --run runs/everyday -o runs/everyday-readout
    """
    from zeroseg.commands.command import user_errors

    with user_errors():
        path = refit(model, run, out, Refit(**settings), threads)
    click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
