"""Access control of the server: host names, token, other sites' pages, size of uploads. Plain ASGI.

Another site's page in the same browser can send requests to 127.0.0.1 too. So without a token only local host names are
answered (against DNS rebinding), and requests that change something must come from the page's own origin. No answer has
a header that would let another site's page read it.
"""

import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse

from zeroseg.errors import ZerosegError

LOCAL = ("127.0.0.1", "localhost", "::1")
OPEN_PATHS = ("/healthz", "/page.css")  # the token form below uses the style too
COOKIE = "zeroseg_token"
UPLOAD_LIMIT_BYTES = 20_000_000
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_TOKEN_FORM = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>zeroseg</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/page.css">
</head>
<body>
<form id="door" action="/">
  <label for="token">Token of this server</label>
  <input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
  {wrong}
  <button class="main">Open</button>
</form>
</body>
</html>
"""


def check_exposure(host: str, token: str | None, insecure: bool) -> None:
    """Raise ZerosegError if the network would have access without a token."""
    if token is not None and len(token) < 8:
        raise ZerosegError("--token: expected at least 8 characters")
    if host not in LOCAL and not token and not insecure:
        raise ZerosegError(
            f"--host {host} opens the server to the network: give --token SECRET, or --insecure if anyone there "
            "may see the pictures"
        )


class Guard:
    """Wraps an ASGI application. any_host: answer to any host name (the token, or --insecure, decides)."""

    def __init__(self, app, token: str | None, any_host: bool, limit_bytes: int = UPLOAD_LIMIT_BYTES):
        self.app, self.token, self.any_host, self.limit_bytes = app, token, any_host, limit_bytes

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}

        async def send_safely(message):
            if message["type"] == "http.response.start":
                present = {key.lower() for key, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (key.lower().encode(), value.encode())
                        for key, value in HEADERS.items()
                        if key.lower().encode() not in present
                    ),
                ]
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is not None:
            return await refusal(scope, receive, send_safely)
        await self.app(scope, self._limited(receive), send_safely)

    def _refusal(self, scope, headers):
        """The response that refuses a request, or None."""
        host = headers.get("host", "")
        if not self.any_host and _name(host) not in LOCAL:
            return _answer(403, f"host name {host[:100]!r} is not this machine's; open http://127.0.0.1")
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            origin = headers.get("origin")
            if origin is not None and urlsplit(origin).netloc != host:
                return _answer(403, "requests from other sites' pages are refused")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.limit_bytes:
            return _answer(413, f"more than {self.limit_bytes / 1e6:g} MB")
        if self.token is None or scope["path"] in OPEN_PATHS:
            return None
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        bearer = headers.get("authorization", "").removeprefix("Bearer ").strip()
        if any(map(self._fits, (asked, bearer, _cookie(headers.get("cookie", ""))))):
            if not asked or scope["path"] != "/":
                return None
            answer = RedirectResponse("/", 303)  # so the token disappears from the address bar
            if self._fits(asked):
                answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict", max_age=30 * 86400)
            return answer
        if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            answer = HTMLResponse(
                _TOKEN_FORM.format(wrong=asked and '<p id="wrong" role="alert">Wrong token.</p>'), 401
            )
            answer.headers["Content-Security-Policy"] = HEADERS["Content-Security-Policy"].replace(
                "form-action 'none'", "form-action 'self'"
            )
        else:
            answer = _answer(401, "a token is needed: open /?token=SECRET, or send Authorization: Bearer SECRET")
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    def _fits(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self.token.encode())

    def _limited(self, receive):
        got = 0

        async def limited():
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self.limit_bytes:
                raise HTTPException(413, f"more than {self.limit_bytes / 1e6:g} MB")
            return message

        return limited


def _answer(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)


def _name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _cookie(header: str) -> str:
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""
