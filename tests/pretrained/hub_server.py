"""A small stand-in for the Hub's HTTP interface on loopback: files by revision, uploads, and faults on request."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Hub:
    """repos: "owner/name" -> commit -> file -> bytes; refs: (name, branch or tag) -> commit. requests: those received.

    cut: file -> numbers of bytes; each cuts the connection once, after so many bytes.
    """

    def __init__(self):
        self.repos, self.refs, self.requests, self.cut = {}, {}, [], {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                hub.answer(self, body=False)

            def do_GET(self):
                hub.answer(self, body=True)

            def do_POST(self):
                hub.take(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, files: dict[str, bytes], *refs: str) -> str:
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.repos.setdefault(name, {})[commit] = files
        for ref in ("main", *refs):
            self.refs[name, ref] = commit
        return commit

    def loaded(self) -> list[str]:
        """The files whose content was requested."""
        return [path.split("/")[-1] for method, path in self.requests if method == "GET" and "/resolve/" in path]

    def answer(self, request, body: bool) -> None:
        path = unquote(request.path.partition("?")[0]).strip("/")
        self.requests.append((request.command, path))
        parts = path.split("/")
        if len(parts) < 5 or parts[2] != "resolve":
            return self._say(request, 404, {})
        name, revision, file = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        if name not in self.repos:
            return self._say(request, 404, {"X-Error-Code": "RepoNotFound"})
        commit = self.refs.get((name, revision), revision)
        if commit not in self.repos[name]:
            return self._say(request, 404, {"X-Error-Code": "RevisionNotFound"})
        about = {"X-Repo-Commit": commit}
        if file not in self.repos[name][commit]:
            return self._say(request, 404, about | {"X-Error-Code": "EntryNotFound"})
        data = self.repos[name][commit][file]
        about |= {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if start:
            about["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cuts = self.cut.get(file, []) if body else []
        self._say(request, 206 if start else 200, about, data[start:], body, cuts.pop(0) if cuts else None)

    def take(self, request) -> None:
        content = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        path = request.path.partition("?")[0].strip("/")
        self.requests.append((request.command, path))
        if path == "api/repos/create":
            asked = json.loads(content)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.repos.setdefault(name, {})
            return self._json(request, {"url": f"{self.url}/{name}", "id": name, "name": name})
        if path == "api/validate-yaml":
            return self._json(request, {"errors": [], "warnings": []})
        name = "/".join(path.split("/")[2:4])
        if "/preupload/" in path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(content)["files"]
            ]
            return self._json(request, {"files": files})
        if "/commit/" in path:
            lines = [json.loads(line) for line in content.splitlines()]
            new = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            commit = self.add(name, new)
            return self._json(request, {"commitUrl": f"{self.url}/{name}/commit/{commit}", "commitOid": commit})
        return self._say(request, 404, {})

    def _json(self, request, document) -> None:
        self._say(request, 200, {"Content-Type": "application/json"}, json.dumps(document).encode())

    def _say(self, request, status, headers, data=b"", body=True, cut=None) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if body:
            request.wfile.write(data if cut is None else data[:cut])
        if cut is not None:
            request.wfile.flush()
            request.connection.shutdown(2)
            request.close_connection = True
