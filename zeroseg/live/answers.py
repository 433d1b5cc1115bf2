"""Answers common to all routes: refused input as valid JSON, and HEAD wherever there is GET."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute

_SHOWN_CHARACTERS = 100  # of text from the client, such as unknown field names


def answer_wrong_input(app: FastAPI) -> None:
    """Answer 422 with place and fault, but not the input, which may be a whole upload, NaN, or invalid Unicode."""

    async def refuse(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = [
            {"loc": [_shown(step) for step in one["loc"]], "msg": _shown(one["msg"], 500), "type": one["type"]}
            for one in error.errors()
        ]
        return JSONResponse({"detail": problems}, 422)

    app.add_exception_handler(RequestValidationError, refuse)


def answer_head(app: FastAPI, endless: dict[str, str]) -> None:
    """Answer HEAD on every route that has GET; call it last. endless: path -> media type of streams without end."""

    def head_of_stream(media_type: str):
        return lambda: Response(media_type=media_type)

    for route in [route for route in app.routes if isinstance(route, APIRoute) and "GET" in route.methods]:
        endpoint = head_of_stream(endless[route.path]) if route.path in endless else route.endpoint
        app.add_api_route(route.path, endpoint, methods=["HEAD"], include_in_schema=False)


def _shown(text, most: int = _SHOWN_CHARACTERS):
    """Text that any encoding holds, cut to `most` characters; other values unchanged."""
    return text.encode("utf-8", "backslashreplace").decode()[:most] if isinstance(text, str) else text
