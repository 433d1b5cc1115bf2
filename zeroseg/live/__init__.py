"""Cameras, videos and streams: sources, a pipeline of threads, sinks, and the page. See docs/live.md."""
