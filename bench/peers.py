"""Other dense open-vocabulary networks at the same sizes: latency only, the weights are random.

GroupViT is transformers' architecture at its published size; open_clip's ViT-B/16 gives its patch tokens, which is what
dense CLIP methods read. Both run as their users run them, in PyTorch, batch 1, without text.
"""

from collections.abc import Callable


def make_peers(side: int, threads: int) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    """(name -> call on one image of side x side, name -> why it cannot run)."""
    try:
        import torch
    except ImportError:
        return {}, dict.fromkeys(_MAKERS, "torch is not installed")
    torch.set_num_threads(threads)
    image = torch.zeros(1, 3, side, side)
    calls, missing = {}, {}
    for name, make in _MAKERS.items():
        try:
            model = make(side)
        except ImportError as error:
            missing[name] = f"{error.name} is not installed"
        except Exception as error:  # another project's constructor at a size that it may not take
            missing[name] = f"not at {side} px: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        else:
            calls[name] = lambda model=model: _run(torch, model, image)
    return calls, missing


def _run(torch, model, image):
    with torch.inference_mode():
        return model(image)


def _groupvit(side: int):
    from transformers import GroupViTVisionConfig, GroupViTVisionModel

    model = GroupViTVisionModel(GroupViTVisionConfig(image_size=side)).eval()
    return lambda image: model(image, output_attentions=True)  # the attentions are its segmentation


def _clip_vit(side: int):
    import open_clip

    model = open_clip.create_model("ViT-B-16", pretrained=None, force_image_size=side).visual.eval()
    model.output_tokens = True
    return model


_MAKERS = {"GroupViT (random weights)": _groupvit, "open_clip ViT-B/16 dense (random weights)": _clip_vit}
