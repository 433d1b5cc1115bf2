"""Model folders as a model hub keeps them, and the way there and back; docs/hub.md."""
