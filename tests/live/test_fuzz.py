"""Random requests made from the OpenAPI description: all answers are as described, and none is a 500."""

import time

import pytest

from tests.live.conftest import color_pack
from zeroseg.segment.segmenter import Segmenter

pytest.importorskip("av")
pytest.importorskip("fastapi")
hypothesis = pytest.importorskip("hypothesis")
schemathesis = pytest.importorskip("schemathesis")
from schemathesis.checks import not_a_server_error  # noqa: E402 (only where it is)
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

EXAMPLES = 15  # per operation
# that valid requests succeed is left out: random bytes are no picture, and random text is no word
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
TOKEN = "correct horse"
ENTERED = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def make(color_segmenter, color_words):
    """make(live, token) -> the application, with a running test pattern where it is live."""
    from zeroseg.live.board import Board
    from zeroseg.live.pipeline import Pipeline
    from zeroseg.live.server import make_app
    from zeroseg.live.sources import open_source

    segmenter = Segmenter(color_segmenter.runner, color_segmenter.sidecar).set_labels(color_pack())
    running = []

    def make(live, token):
        board = Board()
        if live:
            running.append(Pipeline(open_source("test://?size=160x96&fps=20"), segmenter, [board]).start())
            end = time.monotonic() + 30
            while not board.number:
                assert time.monotonic() < end
                time.sleep(0.01)
        return make_app(segmenter, running[0] if live else None, board, token, any_host=True)

    yield make
    for pipeline in running:
        pipeline.stop()
        assert pipeline.join(10)
        pipeline.close()


def ask(operation, headers, examples):
    """The status codes that random requests got."""
    codes = set()

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy())
    def requests(case):
        codes.add(case.call_and_validate(headers=headers, checks=CHECKS).status_code)

    requests()
    return codes


@pytest.mark.parametrize(
    ("live", "token", "headers", "examples"),
    [(False, None, {}, EXAMPLES), (True, TOKEN, ENTERED, 8), (True, TOKEN, {"Authorization": "Bearer wrong"}, 2)],
    ids=["photos", "live", "without the token"],
)
def test_random_requests(make, live, token, headers, examples):
    """The operations are walked by hand: schemathesis' pytest plugin breaks with newer pytest versions."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", make(live, token), headers=ENTERED)
    answered = {
        operation.path: ask(operation, headers, examples)
        for operation in (result.ok() for result in schema.get_all_operations())
    }
    assert {"/segment", "/labels", "/settings", "/state", "/healthz", "/metrics", "/snapshot.png"} == set(answered)
    if headers not in ({}, ENTERED):
        assert answered == {path: {200} if path == "/healthz" else {401} for path in answered}
    elif live:
        assert 200 in answered["/settings"] and 200 in answered["/snapshot.png"]
