"""Random requests by the interface's own description: no answer is a 500, all are as described."""

import pytest

from tests.live.conftest import color_pack
from tests.live.test_server import color_words  # noqa: F401 (a fixture)
from zeroseg.segmenter import Segmenter

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


def test_random_requests(color_segmenter, color_words):  # noqa: F811
    """The operations are walked by hand: schemathesis' pytest plugin breaks with newer pytest versions."""
    from zeroseg.live.board import Board
    from zeroseg.live.server import make_app

    segmenter = Segmenter(color_segmenter.runner, color_segmenter.sidecar).set_labels(color_pack())
    schema = schemathesis.openapi.from_asgi("/openapi.json", make_app(segmenter, None, Board(), any_host=True))
    walked = []
    for result in schema.get_all_operations():
        operation = result.ok()

        @hypothesis.settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
                             suppress_health_check=list(hypothesis.HealthCheck))
        @hypothesis.given(case=operation.as_strategy())
        def requests(case):
            case.call_and_validate(checks=CHECKS)

        requests()
        walked.append(operation.path)
    assert {"/segment", "/labels", "/settings", "/state", "/healthz", "/metrics", "/snapshot.png"} == set(walked)
