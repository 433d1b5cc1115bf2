"""Class names of the standard sets, in the order of their mask ids.

Two lists per set, because results depend on them: `plain`, the dataset's own class list with compound words parted
("pottedplant" -> "potted plant"), and `official`, the names that GroupViT's protocol gives to the text encoder (its
renames are part of that protocol). Id 0 is the background, which never gets a name; the lists start at id 1.
"""

from __future__ import annotations

import re

VOC_PLAIN = (
    "aeroplane,bicycle,bird,boat,bottle,bus,car,cat,chair,cow,dining table,dog,horse,motorbike,person,potted plant,"
    "sheep,sofa,train,tv monitor"
).split(",")

CONTEXT_PLAIN = (
    "aeroplane,bag,bed,bedclothes,bench,bicycle,bird,boat,book,bottle,building,bus,cabinet,car,cat,ceiling,chair,cloth,"
    "computer,cow,cup,curtain,dog,door,fence,floor,flower,food,grass,ground,horse,keyboard,light,motorbike,mountain,"
    "mouse,person,plate,platform,potted plant,road,rock,sheep,shelves,sidewalk,sign,sky,snow,sofa,table,track,train,"
    "tree,truck,tv monitor,wall,water,window,wood"
).split(",")

COCO_THINGS = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,"
    "snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,"
    "fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
).split(",")

# COCO category ids 1..90 with ten never used; a COCO-Stuff PNG stores category id - 1.
COCO_UNUSED_CATEGORY_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)

# What COCO's panoptic names mean, where dropping "-merged", "-other" or "-stuff" does not say it.
COCO_STUFF_SPOKEN = {
    "floor-wood": "wood floor",
    "playingfield": "playing field",
    "wall-brick": "brick wall",
    "wall-stone": "stone wall",
    "wall-tile": "tile wall",
    "wall-wood": "wood wall",
    "window-blind": "window blind",
}

VOC_RENAMES = {"dining table": "table", "potted plant": "plant", "tv monitor": "monitor"}
CONTEXT_RENAMES = {"aeroplane": "airplane", "potted plant": "plant", "tv monitor": "monitor"}


def spoken_name(name: str) -> str:
    """A class name as one says it: "tree-merged" -> "tree", "wall-brick" -> "brick wall", "hot_dog" -> "hot dog"."""
    name = COCO_STUFF_SPOKEN.get(name, re.sub(r"(-other)?(-merged)?$|-stuff$", "", name))
    return " ".join(name.replace("_", " ").split())


def renamed(names: list[str], renames: dict[str, str]) -> list[str]:
    """`names` with each key of `renames` replaced; every key must occur."""
    missing = set(renames) - set(names)
    if missing:
        raise ValueError(f"renames: expected names of the list, got {sorted(missing)}")
    return [renames.get(name, name) for name in names]


VOC_OFFICIAL = renamed(VOC_PLAIN, VOC_RENAMES)
CONTEXT_OFFICIAL = renamed(CONTEXT_PLAIN, CONTEXT_RENAMES)
VOC_ANIMALS = ("background", "cat", "cow", "dog", "horse", "person", "sheep")
