"""Write a model card from the settings of the model's run, so that no teacher is left out."""

import json
import sys
from pathlib import Path

import click

try:
    import zeroseg  # noqa: F401
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from zeroseg.errors import ZerosegError
from zeroseg.training.gather_photos import SOURCES
from zeroseg.training.recipes import TrainConfig
from zeroseg.training.teachers.described import describe, tuned, zero_shot


def card(run: dict, sidecar: dict, steps: list[str] = ()) -> str:
    """The card as Markdown.

    run      a run folder's config.json.
    sidecar  what the model says of itself: name, embedding_space, embedding_dim, segments, input, threshold, card.
    steps    what was done to the model after training, a sentence each.
    """
    config = TrainConfig.from_dict(run["config"])
    about = sidecar.get("card", {})
    teachers = ["| teacher | what it says | supervised by | source |", "|---|---|---|---|"]
    teachers += [f"| {t.name} | {t.what} | {t.supervised_by} | {t.source} |" for t in describe(config)]
    photos = ["| photos | at most | what | licence as stated |", "|---|---|---|---|"]
    photos += [f"| {s.repository or s.name} | {s.count} | {s.what} | {s.licence} |" for s in SOURCES]
    size = sidecar["input"]
    facts = [
        f"| training | preset `{config.preset}`, at most {config.epochs:g} epochs, seed {config.seed} |",
        f"| trained on | {about.get('photos', '?')} photos, no labels, no masks |",
        f"| started from | {'the weights of another student' if run['inputs'].get('initial') else 'its stem alone'} |",
        f"| segments | {sidecar['segments']} |",
        f"| embedding space | {sidecar['embedding_space']}, {sidecar['embedding_dim']} numbers |",
        f"| input | short side {size['short_side']} px, multiples of {size['multiple']} |",
        f"| threshold | {sidecar['threshold']:.3f} |",
    ]
    constants = tuned(config)
    parts = [
        f"# Model card: zeroseg {sidecar['name']}",
        "Written by `training/model_card.py` from the run's settings.",
        "\n".join(["| | |", "|---|---|", *facts]),
        "## Teachers",
        "\n".join(teachers),
        f"**{zero_shot(config)}**",
        f"Settled on the masks of VOC-animals dev, coarsely: {constants}." if constants else "",
        "CLIP's image tower was never seen; its text vectors name the segments."
        if config.teacher.spec.startswith("timm:")
        else "",
        "## Photos",
        "\n".join(photos),
        "Several collections state no licence: the model is for research and demonstration.",
        "## After training" if steps else "",
        "\n".join(f"- {step}" for step in steps),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--run", type=click.Path(file_okay=False, path_type=Path), required=True, help="The run's folder.")
@click.option("--step", "steps", multiple=True, help="What was done after training; a sentence, may be repeated.")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Card to write.")
def main(model, run, steps, out):
    """Write the card of a trained MODEL (.pt).

    \b
    Example:
      python training/model_card.py runs/tiny/model.pt --run runs/tiny -o models/tiny/README.md
    """
    from zeroseg.commands.command import user_errors
    from zeroseg.model.checkpoint import load_checkpoint

    with user_errors():
        try:
            made_of = json.loads((run / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ZerosegError(f"run: {run} has no config.json that can be read ({type(error).__name__})") from error
        text = card(made_of, load_checkpoint(model).sidecar, list(steps))
        partial = out.with_name(f".{out.name}.partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(out)
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main()
