"""Collections of photos of any size: folders, and tar files (shards) of photos."""
