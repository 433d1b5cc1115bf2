"""Save models as folders for the Hugging Face Hub, upload and download them; docs/hub.md."""
