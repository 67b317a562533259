"""A web server on this machine whose answers a test scripts, to be as bad as servers are."""

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web:
    """Contents by path; a script of answers for each path, the last of which is repeated; what was asked for."""

    def __init__(self, address):
        self.address = address
        self.contents, self.scripts, self.asked = {}, {}, []

    def put(self, path, content, *answers):
        """Serve content at path, by answers in their order; returns its address."""
        self.contents[path], self.scripts[path] = content, list(answers) or [whole]
        return f"{self.address}/{path}"

    def ranges(self, path=None):
        """The Range header of each request for a path, None for those without one."""
        return [headers.get("Range") for name, headers in self.asked if path in (None, name)]

    def answer(self, request):
        path = request.path.lstrip("/")
        self.asked.append((path, dict(request.headers)))
        if path not in self.contents:
            return status(404)(request, b"")
        script = self.scripts[path]
        return (script.pop(0) if len(script) > 1 else script[0])(request, self.contents[path])


@contextmanager
def serve():
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self):
            self.close_connection = True
            web.answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web = Web(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()


def send(request, code, headers, body=b""):
    request.send_response(code)
    for name, value in {"Connection": "close", "Content-Type": "application/octet-stream", **headers}.items():
        if value is not None:
            request.send_header(name, str(value))
    request.end_headers()
    request.wfile.write(body)


def _range(request, content, tag):
    """The first byte asked for, 0 without a range or where the content is not that of If-Range."""
    if request.headers.get("If-Range", tag) != tag:
        return 0
    found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
    return int(found[1]) if found else 0


def good(first=None, tag=None, ranges=True, length=True, cut=None, announce=0, more=b"", total=None):
    """An answer as a server should give it, but: `cut` bytes of the body alone, another length announced, bytes
    `more` at the end, another `total` in Content-Range, no ranges, no length, a range from another `first`."""

    def answer(request, content):
        start = _range(request, content, tag) if ranges else 0
        if start >= len(content) > 0 and start:
            return send(request, 416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": 0})
        begin = start if first is None or not start else first
        body = content[begin:] + more
        headers = {"ETag": tag, "Content-Length": len(body) + announce if length else None}
        if start:
            of = len(content) if total is None else total
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{of}"
        return send(request, 206 if start else 200, headers, body if cut is None else body[:cut])

    return answer


def whole(request, content):
    """A server without fault."""
    good()(request, content)


def chunked(cut=None, ranges=True, step=100):
    """Without a length, in chunks; cut after so many bytes, without the last chunk."""

    def answer(request, content):
        start = _range(request, content, None) if ranges else 0
        if start >= len(content) > 0 and start:
            return whole(request, content)
        headers = {"Transfer-Encoding": "chunked"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        send(request, 206 if start else 200, headers)
        body = content[start:] if cut is None else content[start : start + cut]
        for i in range(0, len(body), step):
            request.wfile.write(f"{len(body[i : i + step]):x}\r\n".encode() + body[i : i + step] + b"\r\n")
        if cut is None:
            request.wfile.write(b"0\r\n\r\n")
        return None

    return answer


def status(code, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request, content: send(request, code, {"Content-Length": 0, **headers})


def redirect(to, code=302):
    return status(code, Location=to)


def page(kind="text/html; charset=utf-8", text="<!DOCTYPE html><title>Please log in</title>" + " " * 500):
    return lambda request, content: send(
        request, 200, {"Content-Type": kind, "Content-Length": len(text)}, text.encode()
    )


def stalling(count, gate):
    """So many bytes, then nothing until the gate opens."""

    def answer(request, content):
        start = _range(request, content, None)
        send(request, 200, {"Content-Length": len(content)}, content[:count])
        request.wfile.flush()
        gate.wait(20)
        assert start == 0

    return answer
