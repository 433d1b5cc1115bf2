"""Photos for many clients at once: the Triton Inference Server as a child process, with our network behind it."""
