"""The assignment of tokens to groups by the fused kernels of zeroseg.kernels.segment_attention, on CUDA devices.

It is off by default, because it has not been shown to be faster on a GPU. It does not change a model on a CPU.
"""

import torch
from torch import nn

from zeroseg.model.grouping import Assign, StageMaps


class FusedAssign(Assign):
    """Assign with one op from logits to pooled values; the same parameters under the same names."""

    def forward(self, group_BSC: torch.Tensor, x_BLC: torch.Tensor) -> tuple[torch.Tensor, StageMaps]:
        if not x_BLC.is_cuda:
            return super().forward(group_BSC, x_BLC)
        return self.forward_fused(group_BSC, x_BLC)

    def forward_fused(self, group_BSC: torch.Tensor, x_BLC: torch.Tensor, impl: str = "auto"):
        """As forward, on any device. The noise comes from torch's CPU generator, one seed a call."""
        from zeroseg.kernels.segment_attention import segment_attention

        cosine = self.config.assignment == "cosine"
        noise = self.training and self.config.gumbel
        result = segment_attention(
            self.q(group_BSC).float(),
            self.k(x_BLC).float(),
            self.v(x_BLC),
            scale=self.log_scale.exp().clamp(max=100.0) if cosine else None,
            cosine=cosine,
            aggregation=self.config.aggregation,
            eps=self.config.assign_eps,
            tau=self.config.assign_tau,
            seed=int(torch.randint(2**62, ())) if noise else None,
            impl=impl,
        )
        return self.proj(result.pooled), StageMaps(result.hard, result.soft)


def use_fused_assignment(model: nn.Module, fused: bool = True) -> None:
    """Switch every assignment in model to the fused kernels on CUDA, or back.

    Parameters stay the same objects, so an optimizer and a checkpoint are not affected.
    """
    kind, other = (FusedAssign, Assign) if fused else (Assign, FusedAssign)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is other:
                changed = kind(child.config)
                for own, part in child.named_children():
                    setattr(changed, own, part)
                for own, parameter in child.named_parameters(recurse=False):
                    setattr(changed, own, parameter)
                setattr(parent, name, changed.train(child.training))
