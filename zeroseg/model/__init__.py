"""The student: one file per box of the diagram (encoder, stem, reconstruction, grouping, head, readout)."""

from zeroseg.model.checkpoint import load_checkpoint, load_model, save_checkpoint
from zeroseg.model.zeroseg import ZeroSeg, ZeroSegOutput

__all__ = ["ZeroSeg", "ZeroSegOutput", "load_checkpoint", "load_model", "save_checkpoint"]
