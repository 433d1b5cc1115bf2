"""Change a finished student without training, for the commands balance_classes and set_score_share.

Such a command gets MODEL and --out from finished_options, changes the model of open_finished, and passes it to
save_finished.
"""

from pathlib import Path

import click

from zeroseg.errors import ZerosegError


def finished_options(command):
    """The decorator of such a command: its argument MODEL and its option --out, both paths."""
    command = click.option(
        "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FILE.pt", help="Must not exist."
    )(command)
    return click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.pt")(command)


def open_finished(path: Path, out: Path):
    """The model of path and its description. ZerosegError in one line where there is none, or where out exists."""
    from zeroseg.model.checkpoint import load_model

    if out.exists():
        raise ZerosegError(f"{out}: exists already; give another name")
    return load_model(path)


def round_rows(model, bits: int) -> None:
    """Round the trained matrices of model in place, so that their files compress well: each row (of the first axis) to
    multiples of a power of two that need `bits` bits with the sign. The frozen stem stays as it is.
    """
    import torch

    most = 2 ** (bits - 1) - 1
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and not name.startswith("stem."):
                rows = weight.flatten(1)
                step = torch.exp2(torch.ceil(torch.log2(rows.abs().amax(1, keepdim=True).clamp_min(1e-12) / most)))
                weight.copy_((torch.round(rows / step) * step).view_as(weight))


def save_finished(out: Path, model, sidecar: dict, like: Path, half: bool = False) -> None:
    """Write model to out, its weights as float16 where half says so or they are float16 in like, else as float32."""
    import torch

    from zeroseg.model.checkpoint import save_checkpoint
    from zeroseg.model.torch_file import load_torch

    stored = load_torch(like, "zeroseg checkpoint")["state_dict"]
    half = half or any(value.dtype == torch.float16 for value in stored.values())
    save_checkpoint(out, model, sidecar=sidecar, half=half)
