"""Build a teacher from its spec."""

from zeroseg.errors import ZerosegError
from zeroseg.training.conse import LabelSpace
from zeroseg.training.recipes import TeacherConfig
from zeroseg.training.teacher import Teacher

KINDS = ("open_clip", "radio", "timm")


def build_teacher(
    config: TeacherConfig, labels: LabelSpace | None = None, device: str = "cpu", impl: str = "auto"
) -> Teacher:
    """The teacher that config names.

    labels  label embeddings for a classifier; timm teachers need them.
    impl    "auto", "onnxruntime" or "torch": the runtime of a classifier.
    Raises ZerosegError for a wrong name or file, UnavailableError if weights are not available.
    """
    kind, _, name = config.spec.partition(":")
    if kind not in KINDS or not name:
        raise ZerosegError(
            f"teacher: expected open_clip:ARCH/TAG_or_file, radio:VERSION or timm:NAME+NAME, got {config.spec!r}"
        )
    if config.reading and kind == "timm":
        raise ZerosegError(
            f"teacher {config.spec}: a classifier has no attention variant {config.reading!r}; leave --reading out"
        )
    if config.helper and kind != "open_clip":
        raise ZerosegError(f"teacher {config.spec}: only an open_clip teacher takes a helper; leave --helper out")
    if kind != "timm":
        from zeroseg.training.clip_tower import ClipTower

        return ClipTower(config, device)
    if labels is None:
        raise ZerosegError(
            f"teacher {config.spec} is a classifier and needs label embeddings: give --labels DIR (or "
            "--label-names, --label-vectors and --class-names)"
        )
    from zeroseg.training.classifiers import ClassifierEnsemble

    return ClassifierEnsemble(config, labels, device, impl)
