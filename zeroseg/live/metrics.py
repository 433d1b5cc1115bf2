"""GET /metrics: the statistics of a run in Prometheus' text format 0.0.4."""

from zeroseg.live.figures import BUCKETS_MS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_text(pipeline, board, photos) -> str:
    """All metrics; those of the live picture only if there is one. Times are in seconds, as usual in Prometheus."""
    lines: list[str] = []

    def metric(name: str, kind: str, help_text: str, *samples: tuple[str, float]) -> None:
        lines.extend([f"# HELP zeroseg_{name} {help_text}", f"# TYPE zeroseg_{name} {kind}"])
        lines.extend(
            f"zeroseg_{name}{labels} {value:g}" if isinstance(value, float) else f"zeroseg_{name}{labels} {value}"
            for labels, value in samples
        )

    metric("photos_total", "counter", "Requests to POST /segment.", ("", photos.requests))
    metric("viewers", "gauge", "Open live pictures.", ("", board.viewers))
    metric("pictures_sent_total", "counter", "Live pictures sent to viewers.", ("", board.pictures_sent))
    if pipeline is not None:
        figures = pipeline.figures
        metric("frames_total", "counter", "Frames segmented and shown.", ("", figures.frames))
        metric("dropped_frames_total", "counter", "Frames of the source that were dropped.", ("", pipeline.dropped))
        metric("reconnects_total", "counter", "Times the source was opened again.", ("", pipeline.source.reconnects))
        metric(
            "source_up",
            "gauge",
            "0 while the source is lost, else 1.",
            ("", int(pipeline.source.away is None)),
        )
        metric("fps", "gauge", "Frames per second, over the last seconds.", ("", float(figures.fps())))
        metric(
            "stage_seconds_total",
            "counter",
            "Time spent per stage.",
            *((f'{{stage="{stage}"}}', ms / 1000) for stage, ms in figures.stage_sums_ms.items()),
        )
        samples, total = [], 0
        for bound, count in zip((*BUCKETS_MS, None), figures.latency_counts):
            total += count
            samples.append((f'_bucket{{le="{bound / 1000 if bound else "+Inf"}"}}', total))
        samples += [("_sum", figures.latency_sum_ms / 1000), ("_count", total)]
        metric("latency_seconds", "histogram", "From capture to display.", *samples)
    return "\n".join(lines) + "\n"
