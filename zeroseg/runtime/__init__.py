"""One runner per back end, all with the same face: `base`."""
