"""Serve many clients at once: the Triton Inference Server as a child process that runs our network."""
