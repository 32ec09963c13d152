"""A registry of images, as Docker's distribution API has it: a challenge, a token for anybody, and an index of platforms."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Registry:
    def __init__(self):
        self.platforms, self.open = ["amd64", "arm64"], True
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                registry.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request):
        if request.path.startswith("/token?") and "scope=repository%3Aactions%2Factions-runner%3Apull" in request.path:
            return self.send(request, 200, {"token": "anybody"})
        if not self.open or request.headers.get("Authorization") != "Bearer anybody":
            challenge = f'Bearer realm="http://{self.host}/token",service="{self.host}",scope="x"'
            return self.send(request, 401, {}, {"WWW-Authenticate": challenge})
        if request.path != "/v2/actions/actions-runner/manifests/latest" or not self.platforms:
            return self.send(request, 404, {})
        return self.send(request, 200, {"manifests": [{"platform": {"architecture": it, "os": "linux"}} for it in self.platforms]})

    @staticmethod
    def send(request, status, body, headers=None):
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(json.dumps(body).encode())
