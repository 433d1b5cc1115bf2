"""The model's configuration: one frozen dataclass, and the presets built from it.

Fields marked [open] are what the ZeroSeg paper (arXiv 2306.00450) leaves open; the comment says why ours has its
default. [paper], [GroupViT] and [MAE] mark values taken from there.
"""

from dataclasses import asdict, dataclass, fields
from numbers import Real

CHOICES = {
    "encoder": ("vit", "hybrid"),
    "positions": ("stretch", "index", "none"),
    "assignment": ("dot", "cosine"),
    "aggregation": ("hard", "soft"),
    "readout": ("projector", "prototypes"),
    "projector_norm": ("layer", "none", "batch"),
}


@dataclass(frozen=True)
class ModelConfig:
    # Encoder
    encoder: str = "vit"  # "vit": linear patches [MAE]; "hybrid": patches from a convolutional stem
    image_size: int = 224  # [paper] square training size; the grid that "stretch" positions refer to
    patch_size: int = 16  # [open] never written; MAE and GroupViT both use 16
    width: int = 768  # [paper] ViT-Base
    depth: int = 12  # [paper]
    heads: int = 12  # [MAE]
    mlp_ratio: float = 4.0  # [MAE]
    norm_eps: float = 1e-6  # [MAE]
    class_token: bool = True  # [open] kept in the encoder as in MAE; never enters the segmentation head
    positions: str = "stretch"  # [open] other sizes reuse the training coordinates, as GroupViT interpolates its table
    mask_ratio: float = 0.6  # [paper]
    drop_path: float = 0.0  # [open] MAE trains without it
    # Convolutional stem (encoder = "hybrid")
    stem: str = "tf_efficientnet_lite0"  # [open] stands where MAE's ImageNet weights stand; ReLU6, no squeeze-excite
    stem_head: bool = True  # keep the network's 1x1 head and classifier, for readouts that reuse its classes
    stem_norm_frozen: bool = True  # [open] pretrained BatchNorm statistics beat those of small batches
    # Reconstruction head
    reconstruction: bool = True  # [paper]
    decoder_width: int = 512  # [open] MAE's
    decoder_depth: int = 8  # [paper]
    decoder_heads: int = 16  # [MAE]
    normalize_pixels: bool = False  # [open] MAE's code default; the paper speaks of pixel space
    # Segmentation head
    head_width: int = 768  # [open] same as the encoder needs no adapter
    head_heads: int = 12  # [open] same as the encoder
    head_depths: tuple = (2, 2, 1)  # [paper] grouping after layers 2 and 4 of 5
    group_tokens: tuple = (32, 8)  # [paper]
    output_groups: tuple = (32, 8)  # [open] as many groups as tokens; 8 segments in the end
    head_mlp_ratio: float = 4.0  # [GroupViT]
    head_norm_eps: float = 1e-5  # [GroupViT]
    later_token_std: float = 0.0  # [GroupViT] group tokens after stage 1 start at 0, told apart by the mixing MLP alone
    group_mix_ratio: float = 0.5  # [GroupViT] hidden size of the token-mixing MLPs, in widths
    assign_eps: float = 1.0  # [open] GroupViT's code adds 1 to the normaliser: n tokens weigh n / (n + 1)
    assignment: str = "dot"  # [open] GroupViT's; "cosine" has a learned temperature
    assign_scale: float = 10.0  # start of the cosine temperature's inverse; moderate, so that groups can still move
    assign_tau: float = 1.0  # [open] GroupViT's Gumbel-softmax temperature
    gumbel: bool = True  # [open] not spelled out by the paper, comes with GroupViT
    aggregation: str = "hard"  # [open] GroupViT's straight-through one-hot; "soft" mixes by the soft map
    # Readout into the teacher's space
    embedding_dim: int = 768  # [open] CLIP ViT-L/14's joint space
    embedding_space: str = "openai/clip-vit-large-patch14"  # whose text vectors the segments are compared with
    readout: str = "projector"  # [paper] "an MLP layer"
    projector_hidden: int = 4096  # [open] GroupViT's
    projector_norm: str = "layer"  # [open] BatchNorm would mix the statistics of pooled and segment tokens
    prototypes: int = 1001  # readout "prototypes": the stem's classes, then names that no class stands for
    prototype_classifier: bool = False  # a trained classifier beside the stem's, for the names that no class stands for
    prototype_hidden: int = 384  # [open] its correction of the class logits goes through this many units
    projector_shared: bool = True  # [open] one projector for z and g_i is GroupViT's convention
    score_share: float = 0.0  # scores fall off below this share of what the label's best segment has; 0: never

    def __post_init__(self):
        for field in fields(self):
            object.__setattr__(self, field.name, _checked(field.name, getattr(self, field.name), type(field.default)))
        stages = len(self.head_depths)
        if stages < 2 or len(self.group_tokens) != stages - 1 or len(self.output_groups) != stages - 1:
            raise ValueError(
                f"head_depths, group_tokens, output_groups: expected n + 1, n, n entries (n >= 1), "
                f"got {stages}, {len(self.group_tokens)}, {len(self.output_groups)}"
            )
        for width, heads in (("width", "heads"), ("decoder_width", "decoder_heads"), ("head_width", "head_heads")):
            if getattr(self, width) % getattr(self, heads):
                raise ValueError(
                    f"{width}: expected a multiple of {heads} = {getattr(self, heads)}, got {getattr(self, width)}"
                )
        for name in ("width", "decoder_width"):
            if getattr(self, name) % 4:
                raise ValueError(f"{name}: expected a multiple of 4 (2-D sin-cos positions), got {getattr(self, name)}")
        if not 0 <= self.mask_ratio < 1:
            raise ValueError(f"mask_ratio: expected 0 <= r < 1, got {self.mask_ratio}")
        if not 0 <= self.score_share < 1:
            raise ValueError(f"score_share: expected 0 <= r < 1, got {self.score_share}")
        if self.positions == "none" and self.reconstruction:
            raise ValueError("positions: reconstruction needs them, or all mask tokens would be equal; got none")
        if self.encoder == "hybrid" and self.patch_size != 16:
            raise ValueError(f"patch_size: the hybrid encoder's tokens are 16 pixels apart, got {self.patch_size}")
        if self.image_size % self.size_multiple:
            raise ValueError(f"image_size: expected a multiple of {self.size_multiple}, got {self.image_size}")

    @property
    def segments(self) -> int:
        """Number of final segments, K."""
        return self.output_groups[-1]

    @property
    def size_multiple(self) -> int:
        """Both sides of an input must be multiples of this: the patch, or the conv stem's coarsest stride."""
        return 32 if self.encoder == "hybrid" else self.patch_size

    def to_dict(self) -> dict:
        """Plain dict (JSON-ready: tuples become lists)."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict) -> "ModelConfig":
        """Inverse of to_dict; absent fields take their defaults. ValueError on unknown fields or wrong values."""
        if not isinstance(values, dict):
            raise ValueError(f"model config: expected a dict of fields, got {type(values).__name__}")
        unknown = sorted(set(map(str, values)) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"model config: unknown field(s) {', '.join(unknown)}; written by another version?")
        return cls(**values)


def _checked(name: str, value, kind: type):
    """The value as its field's kind, or ValueError naming the field."""
    if kind is tuple and isinstance(value, (list, tuple)):
        value = tuple(value)
        right = all(type(v) is int and v > 0 for v in value)
    elif kind is float:
        right = isinstance(value, Real) and not isinstance(value, bool)
        value = float(value) if right else value
    else:
        right = type(value) is kind
    if kind is int:
        right = right and value > 0
    expected = {int: "a positive int", float: "a number", tuple: "a list of positive ints"}.get(kind, kind.__name__)
    if name in CHOICES:
        expected, right = " or ".join(CHOICES[name]), value in CHOICES[name]
    if not right:
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return value


PRESETS = {
    # The paper's model: MAE ViT-B/16, full-width head, CLIP ViT-L/14 space.
    "base": ModelConfig(),
    # ViT-S/16, GroupViT's own size; the paper's recipe on one small GPU.
    "small": ModelConfig(
        width=384, heads=6, decoder_width=256, decoder_heads=8, head_width=384, head_heads=6, projector_hidden=2048
    ),
    # For the edge: convolutions do the low-level work, attention only groups. No masking, nothing to reconstruct.
    "tiny": ModelConfig(
        encoder="hybrid",
        width=192,
        depth=2,
        heads=6,
        class_token=False,
        mask_ratio=0.0,
        reconstruction=False,
        decoder_width=192,
        decoder_heads=6,
        head_width=192,
        head_heads=6,
        head_depths=(1, 1, 1),
        embedding_dim=512,
        embedding_space="openai/clip-vit-base-patch32",
        projector_hidden=1024,
        mlp_ratio=2.0,  # 25 frames a second on two CPU cores
        head_mlp_ratio=2.0,
        assignment="cosine",  # segments stay as sharp at other image sizes
        assign_scale=30.0,  # with 10 the tokens part in the third epoch only
        later_token_std=0.02,  # with 0 three of eight segments stay alike
        gumbel=False,
        aggregation="soft",
        readout="prototypes",
    ),
}
