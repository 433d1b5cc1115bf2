"""Start from another student's weights when the new student has more names or more segments.

More names: the rows of the old names are copied. A new name's classifier starts as the weighted mean of the classes
with similar vectors, so that its logits have the same scale. More segments: each of the last stage's tokens copies one
old token. Copies share its weight and differ by noise, so that training can separate them.
"""

import torch

from zeroseg.errors import ZerosegError
from zeroseg.model.zeroseg import ZeroSeg

NEAR = 0.05  # temperature of the cosine by which a new name's classifier mixes the classes'
APART = 0.3  # noise on copied tokens, in standard deviations of the weights


def load_initial(student: ZeroSeg, state: dict, path, seed: int) -> None:
    """Load a checkpoint's weights (float32 by name) into the student; ZerosegError, naming path, if they do not fit.

    The student keeps its readout vectors, which belong to the new names.
    """
    state = dict(state)
    own = student.state_dict()
    generator = torch.Generator().manual_seed(seed)
    _more_names(student, state, own)
    _more_segments(state, own, generator)
    wrong = [name for name, value in state.items() if name not in own or own[name].shape != value.shape]
    missing = [name for name in own if name not in state and not name.startswith("reconstruction.")]
    if wrong or missing:
        raise ZerosegError(
            f"initial: {path} is a different model than this run's ({len(wrong + missing)} weights "
            f"differ, first {(wrong + missing)[0]})"
        )
    student.load_state_dict(state, strict=False)


def _more_names(student: ZeroSeg, state: dict, own: dict) -> None:
    old = state.get("readout.vectors")
    if old is None or "readout.vectors" not in own or len(old) >= len(own["readout.vectors"]):
        return
    vectors = own["readout.vectors"]
    count = len(vectors) - len(old)
    state["readout.vectors"] = vectors
    state["readout.centre"] = own["readout.centre"]
    for name in ("readout.correct.weight", "readout.correct.bias"):
        state[name] = torch.cat([state[name], torch.zeros(count, *state[name].shape[1:])])
    if student.readout.classifier is None or "readout.classifier.weight" in state:
        return
    classes = state["stem.classifier.weight"]
    weight, bias = near_classifier(
        vectors[len(classes) :], vectors[: len(classes)], classes, state["stem.classifier.bias"]
    )
    state["readout.classifier.weight"], state["readout.classifier.bias"] = weight, bias


def near_classifier(names_ND, classes_CD, weight_CQ, bias_C) -> tuple[torch.Tensor, torch.Tensor]:
    """A classifier (N, Q), (N,) for names, the means of the classes' rows by softmax(cosine / NEAR)."""
    share_NC = (names_ND @ classes_CD.T / NEAR).softmax(dim=1)
    return share_NC @ weight_CQ, share_NC @ bias_C


def _more_segments(state: dict, own: dict, generator: torch.Generator) -> None:
    last = max((name for name in own if name.endswith("group_token")), default=None)
    if last is None or last not in state or state[last].shape[1] >= own[last].shape[1]:
        return
    stage = last.removesuffix("group_token")
    old, new = state[last].shape[1], own[last].shape[1]
    source = torch.arange(new) % old
    copies = torch.bincount(source, minlength=old)[source].float()

    def apart(value: torch.Tensor, axis: int) -> torch.Tensor:
        taken = value.index_select(axis, source)
        return taken + APART * value.std() * torch.randn(taken.shape, generator=generator)

    state[last] = apart(state[last], 1)
    mix = f"{stage}grouping.mix.mlp."
    state[f"{mix}fc1.weight"] = state[f"{mix}fc1.weight"].index_select(1, source) / copies
    for name in (f"{mix}fc2", f"{stage}mix_before.mlp.fc2"):
        if f"{name}.weight" in state:
            state[f"{name}.weight"] = apart(state[f"{name}.weight"], 0)
            state[f"{name}.bias"] = state[f"{name}.bias"].index_select(0, source)
