"""The files of the pages, as routes of an application."""

from collections.abc import Mapping
from importlib import resources

from fastapi import FastAPI
from fastapi.responses import Response

_KINDS = {"html": "text/html; charset=utf-8", "css": "text/css", "js": "text/javascript"}


def add_page_files(app: FastAPI, routes: Mapping[str, str]) -> None:
    """Add routes: path -> name of a page file, which is read now."""
    for path, name in routes.items():
        app.add_api_route(path, _file(name), include_in_schema=False)


def _file(name: str):
    """An endpoint that sends one of the page's files."""
    body = (resources.files("zeroseg.live") / "page" / name).read_bytes()
    kind = _KINDS[name.rpartition(".")[2]]

    def send():
        return Response(body, media_type=kind)

    return send
