#!/bin/sh
# Makes the bundled model anew, from photos to models/tiny. Run it from the root of the checkout:
#
#   sh runs/tiny.sh OLD_PHOTOS LABELS TEACHERS STREETS [RECIPE]
#
# OLD_PHOTOS  folder with your own sets in subfolders (voc, voc2007, animals, people, imagenet, caltech101); those that
#             are missing are left out
# LABELS      names.txt, clip_vitb32_text.npy, imagenet_names.jsonl (docs/training.md)
# TEACHERS    tf_efficientnet_lite0 and _lite2 (.safetensors), dinov2s_saliency, nanodet, centernet and selfie (.onnx),
#             and the Cityscapes network (.tflite)
# STREETS     text file: the photos of cvjena/labelmefacade to train on, one a line
# RECIPE      everyday (the default) or imagenet
#
# Every step can be stopped and goes on when the script is run again. All seeds are fixed. The caches take about 0.7 s a
# photo on one core (AVX2), an epoch about 0.15 s a photo.
set -eu
[ $# -ge 4 ] || { sed -n 2,18p "$0"; exit 2; }
old=$1 labels=$2 teachers=$3 streets=$4 recipe=${5:-everyday}
work=runs/work
run=runs/$recipe
mkdir -p "$work/clones"

# 1. Photos: public repositories, shrunk
for repository in \
    NUS-VIP/predicting-human-gaze-beyond-pixels emanhamed/Houses-dataset MiguelARD/DoorDetect-Dataset \
    feedmejefferson/images shubhankarm01/Weather-image-classification cvjena/labelmefacade \
    marcusklasson/GroceryStoreDataset alexeygrigorev/clothing-dataset-small
do
    clone=$work/clones/$(echo "$repository" | tr / +)
    [ -d "$clone" ] || git clone --quiet --bare --depth 1 "https://github.com/$repository" "$clone"
done
python training/gather_photos.py "$work/clones" --old "$old" --streets "$streets" -o "$work/photos"

# 2. Teachers, once per photo, and the student. `everyday` goes on from the bundled weights. `imagenet` goes on from the
# first weights in this repository, which only ImageNet classifiers taught.
# Of a run that began, the settings are in its folder.
initial=models/tiny/model.pt
if [ "$recipe" = imagenet ]; then
    initial=$work/first.pt
    git show d544789:models/tiny/model.pt > "$initial" ||
        { echo "the first weights are in the whole history: git fetch --unshallow" >&2; exit 1; }
fi
resume=
[ -f "$run/config.json" ] && resume=--resume
[ -f "$run/model.pt" ] || python training/train.py --recipe "$recipe" --photos "$work/photos" --cache "$work/cache" \
    --labels "$labels" --teacher-weights "$teachers" --helper-weights "$teachers" --initial "$initial" \
    --stem-views 0 --batch 30 --micro-batch 15 --precision fp32 --epochs 3 --out "$run" $resume

# 3. Classes with the same meaning count once in `imagenet` (118 of its classes are dogs). Scores fall off below 0.65 of
# the best segment's. Then the threshold, by Otsu's rule on photos without masks
trained=$run/model.pt balanced=
if [ "$recipe" = imagenet ]; then
    trained=$work/balanced.pt
    balanced="Classes with the same meaning have one prior (training/balance_classes.py)."
    [ -f "$trained" ] || python training/balance_classes.py "$run/model.pt" -o "$trained"
fi
[ -f "$work/$recipe.pt" ] ||
    python training/set_score_share.py "$trained" -o "$work/$recipe.pt" --share 0.65 --half --bits 8
python training/choose_threshold.py "$work/photos" --model "$work/$recipe.pt" --rule otsu --limit 500 --write

# 4. The card, from what the run was made of
mkdir -p "$work/$recipe"
cp "$work/$recipe.pt" "$work/$recipe/model.pt"
python training/model_card.py "$work/$recipe/model.pt" --run "$run" -o "$work/$recipe/README.md" \
    ${balanced:+--step "$balanced"} \
    --step "Scores fall off below 0.65 of the best segment's (training/set_score_share.py)." \
    --step "The threshold is Otsu's on 500 training photos without masks, asked for COCO's 80 names."
echo "made $work/$recipe/model.pt and README.md; compare them with models/tiny before you copy them"
