"""Access control of the page's server: host names, origins, tokens, networks."""

import pytest

from zeroseg.errors import ZerosegError

pytest.importorskip("fastapi")
pytest.importorskip("httpx2", reason="the framework's test client needs it")
testclient = pytest.importorskip("starlette.testclient")

from zeroseg.live.board import Board  # noqa: E402 (only where FastAPI is)
from zeroseg.live.guard import check_exposure  # noqa: E402
from zeroseg.live.server import make_app  # noqa: E402


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),  # DNS rebinding
        ({"Host": "127.0.0.1:8000"}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "["}, 403),
    ],
)
def test_only_local_names_are_answered(photo_app, headers, status):
    assert photo_app.get("/state", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://127.0.0.1", 200), ("https://evil.example", 403), ("null", 403), ("http://127.0.0.1.evil", 403)],
)
def test_pages_of_others_cannot_change_anything(photo_app, origin, status):
    answer = photo_app.put("/labels", json={"labels": "red"}, headers={"Origin": origin})
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers  # CORS is closed
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_token(color_segmenter):
    app = make_app(color_segmenter, None, Board(), token="correct horse", any_host=True)
    with testclient.TestClient(app, follow_redirects=False) as client:
        assert client.get("/healthz").status_code == 200
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "correct horse x"},
            {"Cookie": "zeroseg_token=wrong"},
            {"Cookie": 'zeroseg_token="'},
        ):
            answer = client.get("/state", headers=headers)
            assert answer.status_code == 401 and "token" in answer.json()["detail"]
        assert client.get("/?token=wrong").status_code == 401 and client.post("/segment").status_code == 401
        assert client.get("/state", headers={"Authorization": "Bearer correct horse"}).status_code == 200
        entered = client.get("/?token=correct%20horse")
        assert entered.status_code == 303 and entered.headers["location"] == "/"
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie
        assert client.get("/state").status_code == 200  # by the cookie
        again = client.get("/?token=wrong")  # the cookie suffices, and the token still disappears from the address bar
        assert (again.status_code, again.headers["location"], "set-cookie" in again.headers) == (303, "/", False)


def test_a_browser_without_the_token_is_asked_for_it(color_segmenter):
    app = make_app(color_segmenter, None, Board(), token="correct horse", any_host=True)
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    with testclient.TestClient(app) as client:
        door = client.get("/", headers=browser)
        assert door.status_code == 401 and "form-action 'self'" in door.headers["content-security-policy"]
        assert '<form id="door" action="/">' in door.text and "Wrong token" not in door.text
        wrong = client.get("/?token=%22><script>", headers=browser)
        assert wrong.status_code == 401 and "Wrong token" in wrong.text and "<script" not in wrong.text
        assert client.get("/page.css").status_code == 200 and client.get("/page.js").status_code == 401
        page = client.get("/?token=correct+horse", headers=browser)
        assert page.status_code == 200 and "/page.js" in page.text
        assert "form-action 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("host", "token", "insecure", "message"),
    [
        ("0.0.0.0", None, False, "--token SECRET, or --insecure"),
        ("192.168.1.5", None, False, "--token SECRET, or --insecure"),
        ("0.0.0.0", "short", False, "at least 8 characters"),
    ],
)
def test_network_needs_a_token(host, token, insecure, message):
    with pytest.raises(ZerosegError, match=message):
        check_exposure(host, token, insecure)


def test_allowed_exposures():
    check_exposure("127.0.0.1", None, insecure=False)
    check_exposure("0.0.0.0", "long enough", insecure=False)
    check_exposure("0.0.0.0", None, insecure=True)
