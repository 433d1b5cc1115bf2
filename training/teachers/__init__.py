"""Helper teachers that make dense targets better: affinities, saliency, boxes, person masks, streets."""
