"""The page and the REST API, with FastAPI on uvicorn, in a thread beside the pipeline.

The page loads nothing from other servers.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable
from typing import Annotated, Literal

from zeroseg import __version__, drawing
from zeroseg.errors import missing_extra

try:
    import uvicorn  # noqa: F401
    from fastapi import Body, FastAPI, File, Form, HTTPException, UploadFile
    from fastapi.responses import JSONResponse, Response, StreamingResponse
    from pydantic import BaseModel, ConfigDict, Field
except ImportError as error:
    raise missing_extra("FastAPI and uvicorn", "serve", "the page") from error

from zeroseg.live.answers import answer_head, answer_wrong_input
from zeroseg.live.board import Board, to_png
from zeroseg.live.guard import LOCAL, Guard, check_exposure
from zeroseg.live.listening import Listening
from zeroseg.live.metrics import CONTENT_TYPE, metrics_text
from zeroseg.live.page_files import add_page_files
from zeroseg.live.pipeline import Pipeline, Settings
from zeroseg.live.rest import LABELS_MAX, WAITING_MAX, Photos, hex_color, photo_document
from zeroseg.live.search_page import add_search
from zeroseg.live.streams import StateText, send_pictures, send_states
from zeroseg.search.collection import Collection
from zeroseg.segment.segmenter import Segmenter

__all__ = ["Server", "check_exposure", "make_app"]
_EVENTS, _PICTURES = "text/event-stream", "multipart/x-mixed-replace; boundary=frame"


class Labels(BaseModel):
    """The labels, as a text with commas or as a list."""

    model_config = ConfigDict(extra="forbid")
    labels: str | list[str] = Field(examples=["cat, dog"])


class Changes(BaseModel):
    """Settings to change; those left out stay. threshold null: the model's own."""

    model_config = ConfigDict(extra="forbid")
    threshold: float | None = Field(None, ge=-1, le=2, allow_inf_nan=False)
    alpha: float = Field(0.5, ge=0, le=1, allow_inf_nan=False)
    paused: bool = False


class Problem(BaseModel):
    """What went wrong, in one line."""

    detail: str | list


def _problems(*statuses: int) -> dict:
    return {status: {"model": Problem} for status in statuses}


def make_app(
    segmenter: Segmenter,
    pipeline: Pipeline | None,
    board: Board,
    token: str | None = None,
    any_host: bool = False,
    text: str = "auto",
    at_once: int = 1,
    waiting: int = WAITING_MAX,
    problem: Callable[[], str | None] = lambda: None,
    threshold: float | None = None,
    alpha: float = 0.5,
    collection: Collection | None = None,
):
    """The application. pipeline: None for photos only, without a live picture. segmenter: has the first labels.

    problem: why photos cannot be segmented now, for /healthz; None if nothing is wrong.
    threshold and alpha: without a pipeline, the page's initial values. collection: searched at /search.
    """
    photos = Photos(segmenter, text, at_once=at_once, waiting=waiting)
    # settings: used without a pipeline; revision counts the changes, so the page can ignore states older than its own
    page = {"settings": Settings(segmenter.pack, threshold, alpha), "revision": 0}

    def settings() -> Settings:
        return page["settings"] if pipeline is None else pipeline.settings

    @contextlib.asynccontextmanager
    async def lifespan(_):
        board.attach()
        yield

    app = FastAPI(
        title="zeroseg",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        description="Open-vocabulary segmentation: name what you look for, get masks.",
    )

    def state() -> dict:
        return {
            "revision": page["revision"],
            "search": collection is not None,
            **page_state(segmenter, pipeline, board, settings()),
        }

    state_text = StateText(state)

    def live() -> Pipeline:
        if pipeline is None:
            raise HTTPException(409, "there is no live picture; this server takes photos only")
        return pipeline

    add_page_files(app, {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"})

    @app.get("/healthz", summary="Health of the server and its source")
    def healthz() -> dict:
        if pipeline is not None and pipeline.error is not None:
            return JSONResponse({"status": "failed", "detail": str(pipeline.error)}, 503)
        if (detail := problem()) is not None:
            return JSONResponse({"status": "failed", "detail": detail}, 503)
        if pipeline is not None and pipeline.finished.is_set():
            return {"status": "ended", "version": __version__}
        if pipeline is not None and (detail := pipeline.source.away) is not None:
            return {"status": "lost", "detail": detail, "version": __version__}
        return {"status": "ok", "version": __version__}

    @app.get(
        "/metrics",
        summary="Figures for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **_problems(401)},
    )
    def metrics():
        return Response(metrics_text(pipeline, board, photos), media_type=CONTENT_TYPE)

    @app.get("/state", summary="Labels, settings and figures", responses=_problems(401))
    async def get_state() -> dict:
        return state()

    @app.get("/events", include_in_schema=False)
    async def events():
        return StreamingResponse(send_states(state_text), media_type=_EVENTS)

    @app.get("/live.mjpg", include_in_schema=False)
    async def pictures():
        live()
        return StreamingResponse(send_pictures(board), media_type=_PICTURES)

    @app.get(
        "/snapshot.png",
        summary="The newest live picture",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, **_problems(401, 409)},
    )
    def snapshot():
        live()
        png = board.png()
        if png is None:
            raise HTTPException(409, "there is no picture yet")
        return Response(
            png, media_type="image/png", headers={"Content-Disposition": 'attachment; filename="zeroseg.png"'}
        )

    @app.put(
        "/labels", summary="Change the labels from the next frame on", responses=_problems(400, 401, 403, 413, 422)
    )
    async def put_labels(asked: Labels) -> dict:
        pack = await asyncio.to_thread(photos.pack, asked.labels)
        page["revision"] += 1
        if pipeline is not None:
            pipeline.change(pack=pack)
        else:
            page["settings"] = Settings(pack, threshold, alpha)
        return state()

    @app.patch(
        "/settings", summary="Change threshold, opacity or pause", responses=_problems(400, 401, 403, 409, 413, 422)
    )
    async def patch_settings(changes: Annotated[Changes, Body()]) -> dict:
        live().change(**changes.model_dump(exclude_unset=True))
        page["revision"] += 1
        return state()

    @app.post(
        "/segment",
        summary="Segment one photo",
        response_class=Response,
        responses={
            200: {"content": {"application/json": {}, "image/png": {}}},
            **_problems(400, 401, 403, 413, 415, 422, 503),
        },
    )
    async def segment(
        image: Annotated[UploadFile, File(description="JPEG, PNG, WebP, GIF or BMP")],
        labels: Annotated[
            str | None, Form(description=f"List with commas, at most {LABELS_MAX}; default: the page's labels.")
        ] = None,
        threshold: Annotated[float | None, Form(ge=-1, le=2, allow_inf_nan=False)] = None,
        format: Annotated[
            Literal["json", "labels", "overlay"],
            Form(
                description="json: labels, scores, masks as COCO RLE; labels: palette PNG, value i + 1 is label i; "
                "overlay: PNG."
            ),
        ] = "json",
        overlay: Annotated[bool, Form(description="With json: also the overlay, as a data URL of a JPEG.")] = False,
        alpha: Annotated[float, Form(ge=0, le=1, allow_inf_nan=False)] = 0.5,
    ):
        if labels is not None:
            pack = await asyncio.to_thread(photos.pack, labels)
        else:
            pack = settings().pack
            threshold = settings().threshold if threshold is None else threshold
        result = await photos.segment(await image.read(), pack, threshold)
        shown = settings()  # words that the page shows keep their colours
        result.colors = drawing.label_colors(result.labels, dict(zip(shown.pack.names, shown.colors, strict=True)))
        if format == "json":
            return JSONResponse(await asyncio.to_thread(photo_document, result, overlay, alpha))
        picture = await asyncio.to_thread(result.label_picture if format == "labels" else lambda: result.overlay(alpha))
        return Response(await asyncio.to_thread(to_png, picture), media_type="image/png")

    if collection is not None:
        add_search(app, collection, text)
    answer_wrong_input(app)
    answer_head(app, {"/events": _EVENTS, "/live.mjpg": _PICTURES})
    return Guard(app, token, any_host)


def page_state(segmenter: Segmenter, pipeline: Pipeline | None, board: Board, settings: Settings) -> dict:
    """The content of the page besides the picture, ready for JSON."""
    pack = settings.pack
    document = {
        "model": segmenter.sidecar.name,
        "backend": segmenter.runner.backend,
        "live": pipeline is not None,
        "labels": list(pack.names),
        "marks": pack.marks,
        "viewers": board.viewers,
        "nearest": [list(near[:3]) for near in pack.nearest],
        "threshold": settings.threshold,
        "threshold_default": segmenter.sidecar.threshold,
        "alpha": settings.alpha,
    }
    if pipeline is None:
        return document
    figures, output = pipeline.figures, board.output
    p50, p95, _ = figures.latency_quantiles_ms()
    document |= {
        "source": pipeline.source.name,
        "paused": settings.paused,
        "fps": round(figures.fps(), 2),
        "latency_ms": [round(p50, 1), round(p95, 1)],
        "stages_ms": {stage: round(ms, 1) for stage, ms in figures.stages_ms().items()},
        "frames": figures.frames,
        "dropped": pipeline.dropped,
        "reconnects": pipeline.source.reconnects,
        "away": pipeline.source.away,
        "ended": pipeline.finished.is_set(),
        "error": str(pipeline.error) if pipeline.error else None,
        "legend": [],
        "picture": board.number,
    }
    if output is not None:
        result = output.result
        areas = {region.index: region.area for region in result.found}
        document["size"] = [int(side) for side in result.label_map.shape]
        document["legend"] = [
            {
                "label": name,
                "mark": mark,
                "color": hex_color(color),
                "score": round(float(score), 4) if math.isfinite(score) else None,
                "area": round(areas.get(i, 0.0), 5),
            }
            for i, (name, mark, color, score) in enumerate(
                zip(result.labels, result.marks, result.colors, result.scores)
            )
        ]
    return document


class Server(Listening):
    """The application of make_app(), listening.

    pipeline gets a Board among its sinks; None serves photos only. at_once and waiting are Photos',
    problem, threshold, alpha and collection are make_app's.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        pipeline: Pipeline | None,
        host: str,
        port: int,
        token: str | None = None,
        text: str = "auto",
        at_once: int = 1,
        waiting: int = WAITING_MAX,
        problem: Callable[[], str | None] = lambda: None,
        threshold: float | None = None,
        alpha: float = 0.5,
        collection: Collection | None = None,
    ):
        board = Board()
        if pipeline is not None:
            pipeline.sinks.append(board)
        self.board = board
        app = make_app(
            segmenter,
            pipeline,
            board,
            token,
            any_host=host not in LOCAL,
            text=text,
            at_once=at_once,
            waiting=waiting,
            problem=problem,
            threshold=threshold,
            alpha=alpha,
            collection=collection,
        )
        super().__init__(app, host, port, token)
