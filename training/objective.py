"""The training objective: the student's forward pass, every loss with a non-zero weight, and their weighted sum.

To add a loss, write a function of (output, batch, config) here, name it in LOSSES, and give LossWeights a field of
that name.
"""

import copy
from dataclasses import asdict

import torch
from torch import nn

from zeroseg.errors import ZerosegError
from zeroseg.model.encoder import mask_from_noise, take_places
from zeroseg.model.zeroseg import ZeroSeg, ZeroSegOutput
from zeroseg.training import losses
from zeroseg.training.batches import Batch
from zeroseg.training.diffusion import diffuse_targets
from zeroseg.training.recipes import TrainConfig


def reductions(config: TrainConfig) -> losses.Reductions:
    """How the paper's losses are reduced in this run."""
    return losses.Reductions(config.dim_reduction, config.view_reduction, config.segment_reduction)


def reconstruction(output: ZeroSegOutput, batch: Batch, config: TrainConfig) -> torch.Tensor:
    """MAE's pixel loss on the removed patches."""
    return output.reconstruction_loss


def multi_scale(output: ZeroSegOutput, batch: Batch, config: TrainConfig) -> torch.Tensor:
    """L_ms of the paper: z against every view."""
    return losses.multi_scale_loss(output.image_embedding, batch.views, reductions(config))


def global_view(output: ZeroSegOutput, batch: Batch, config: TrainConfig) -> torch.Tensor:
    """The paper's "Base" loss: z against the whole image."""
    return losses.multi_scale_loss(output.image_embedding, batch.views[:, :1], reductions(config))


def segment_matching(output: ZeroSegOutput, batch: Batch, config: TrainConfig) -> torch.Tensor:
    """L_match of the paper (eq. 1): each segment against its nearest local view."""
    return losses.segment_matching_loss(output.segment_embeddings, batch.views, reductions(config))


def group_variance(output: ZeroSegOutput, batch: Batch, config: TrainConfig) -> torch.Tensor:
    """Patches of one segment should have equal targets: this loss shapes the maps."""
    return losses.group_variance_loss(output.soft_map, batch.dense)


def segment_name(output: ZeroSegOutput, batch: Batch, config: TrainConfig) -> torch.Tensor:
    """A segment's embedding should be the mean target of its patches: this loss gives segments their labels."""
    return losses.segment_name_loss(output.segment_embeddings, output.soft_map, batch.dense)


def place(output: ZeroSegOutput, batch: Batch, config: TrainConfig) -> torch.Tensor:
    """The segments' combined prediction for each patch, map times embeddings, should be its target."""
    return losses.place_loss(output.soft_map @ output.segment_embeddings, batch.dense)


def image_name(output: ZeroSegOutput, batch: Batch, config: TrainConfig) -> torch.Tensor:
    """The image embedding should be the mean target."""
    return losses.place_loss(output.image_embedding[:, None], batch.dense.mean(dim=1, keepdim=True))


LOSSES = {
    f.__name__: f
    for f in (
        reconstruction,
        multi_scale,
        global_view,
        segment_matching,
        group_variance,
        segment_name,
        place,
        image_name,
    )
}
NEED_VIEWS = {"multi_scale", "global_view", "segment_matching"}
NEED_DENSE = {"group_variance", "segment_name", "place", "image_name"}


class Objective(nn.Module):
    """The student with its losses as one module, so that distributed training wraps a single forward pass."""

    def __init__(self, student: ZeroSeg, config: TrainConfig):
        super().__init__()
        self.student, self.config = student, config
        self.weights = {name: weight for name, weight in asdict(config.losses).items() if weight}
        check_weights(config, self.weights)

    def forward(self, batch: Batch, mask_noise: torch.Tensor | None = None) -> tuple[torch.Tensor, dict]:
        """The weighted sum (scalar float32, with gradient) and {name: unweighted loss, detached}.

        mask_noise (B, L) float32: decides which patches the encoder does not see; None: it sees all.
        """
        stem = batch.stem
        if spreads(self.config) and batch.dense is not None:
            stem = self.student.stem(batch.image) if stem is None else stem
            batch = batch.with_dense(diffuse_targets(batch.dense, *stem, self.config.diffusion))
        output = self.student(
            batch.image,
            stem_features=stem,
            mask_noise=mask_noise,
            reconstruct="reconstruction" in self.weights and mask_noise is not None,
        )
        if mask_noise is not None and batch.dense is not None:
            keep = mask_from_noise(mask_noise, self.student.config.mask_ratio).keep
            batch = batch.with_dense(take_places(batch.dense, keep))
        total, values = torch.zeros((), device=output.soft_map.device), {}
        for name, weight in self.weights.items():
            if name == "reconstruction" and mask_noise is None:
                continue  # in validation nothing is removed
            value = LOSSES[name](output, batch, self.config)
            total = total + weight * value.float()
            values[name] = value.detach().float()
        return total, values


def spreads(config: TrainConfig) -> bool:
    """Whether the targets spread over the stem's features in training. A helper's walk is in the cached targets."""
    return bool(config.diffusion.share) and not config.parts.walk


def reaches_all(objective: Objective, batch: Batch) -> bool:
    """Whether the losses depend on every trained weight, tested with a batch of the right shapes."""
    objective = copy.deepcopy(objective).train()  # a forward pass moves the statistics of batch norms
    noise = torch.rand(len(batch), batch.grid[0] * batch.grid[1]) if objective.student.config.mask_ratio else None
    total, _ = objective(batch, None if noise is None else noise.to(next(objective.parameters()).device))
    nodes, seen = [total.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            nodes += [before for before, _ in node.next_functions]
    reached = {id(node.variable) for node in seen if hasattr(node, "variable")}
    return all(id(weight) in reached for weight in objective.parameters() if weight.requires_grad)


def check_weights(config: TrainConfig, weights: dict[str, float]) -> None:
    """Raise ZerosegError unless the run provides the data that its losses need."""
    if not weights:
        raise ZerosegError("losses: every weight is 0, so there is nothing to learn")
    if NEED_VIEWS & set(weights) and not config.views.grids:
        raise ZerosegError(f"losses: {', '.join(sorted(NEED_VIEWS & set(weights)))} need views.grids, such as [1, 2]")
    if NEED_DENSE & set(weights) and not config.views.dense_grid:
        raise ZerosegError(f"losses: {', '.join(sorted(NEED_DENSE & set(weights)))} need views.dense_grid, such as 28")
    if NEED_VIEWS & set(weights) and config.augment != "centre":
        raise ZerosegError("losses: cached views are those of the centre square, so they need augment = centre")
    model = config.model_config()
    if config.diffusion.share and model.encoder != "hybrid" and not config.parts.walk:
        raise ZerosegError("diffusion: targets spread over the features of a convolutional stem; set diffusion.share 0")
    if "reconstruction" in weights and not (model.reconstruction and model.mask_ratio):
        raise ZerosegError("losses: reconstruction needs a model with reconstruction = true and mask_ratio > 0")
    if "reconstruction" in weights and config.stem_views:
        raise ZerosegError("losses: reconstruction needs pixels, not cached stem features; set stem_views 0")
