"""The page on 127.0.0.1 that leads through GitHub. It shows what setup is at, and hands back what the browser brings.

Nothing secret is ever on it but the state, which is good for this run. Another page in the browser cannot read it or
act on it: its address has a part that nobody can guess, and `Host` must be this address (no DNS rebinding)."""

import hmac
import html
import json
import queue
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; color: #1f2328 }
h1 { font-size: 1.4rem } ol { list-style: none; padding: 0 } li { padding: .15rem 0 }
li.done::before { content: "✓ "; color: #1a7f37 } li.now::before { content: "▸ "; color: #0969da }
li.later { color: #818b98 } li.later::before { content: "· " }
button, a.button { font: inherit; background: #1f883d; color: #fff; border: 0; border-radius: 6px; padding: .5rem 1rem;
 text-decoration: none; display: inline-block; cursor: pointer }
button.plain { background: #eff2f5; color: #1f2328 }
.wrong { background: #fff1e5; border-left: 4px solid #bc4c00; padding: .5rem 1rem }
pre { background: #f6f8fa; padding: 1rem; overflow: auto } summary { cursor: pointer; margin: 1rem 0 .5rem }
input[name=address] { width: 100%; font: inherit; box-sizing: border-box; margin: .3rem 0 }
"""
STEPS = ["AWS: the stack", "GitHub: the App", "GitHub: install it", "Proof", "Your first job"]


class View:
    """What the page shows: a step, a sentence, and what can be done."""

    def __init__(self, step, text, body="", wrong="", waits=False):
        self.step, self.text, self.body, self.wrong, self.waits = step, text, body, wrong, waits
        self.seen = threading.Event()


class Page:
    """A context manager; `events` gets ("code", code), ("retry", None) and ("installed", action)."""

    def __init__(self):
        self.state, self.token = secrets.token_hex(32), secrets.token_urlsafe(16)
        self.events, self.view = queue.Queue(), View(0, "Starting …", waits=True)
        self.asked_at = -60
        self.owner_page, self.spent, self.listens = "", False, False
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.url = f"{self.address}/{self.token}/"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def show(self, *args, **kwargs):
        self.view = View(*args, **kwargs)

    def show_last(self, *args, **kwargs):
        """The page goes with this process: a browser that follows it gets a moment to see the end."""
        followed = time.monotonic() - self.asked_at < 15
        self.show(*args, **kwargs)
        if followed:
            self.view.seen.wait(10)

    def take(self, query):
        """What GitHub sent the browser back with: an empty text, or what is wrong."""
        code, state = query.get("code", [""])[0], query.get("state", [""])[0]
        if not hmac.compare_digest(state.encode(), self.state.encode()):
            return ("This address does not belong to this run of setup (its state is another), so nothing was taken from "
                    "it. Way on: press the button again.")
        if not code:
            return "This address has no code in it. Way on: press the button again."
        if not self.spent:
            # A double click, the back button: the code is exchanged once.
            self.spent = True
            # Before the browser comes back to look.
            self.show(1, "Taking over the App …", waits=True)
            self.events.put(("code", code))
        return ""

    def render(self, view):
        self.asked_at = time.monotonic()
        steps = "".join(f'<li class="{"done" if n < view.step else "now" if n == view.step else "later"}">{step}</li>'
                        for n, step in enumerate(STEPS))
        wrong = f'<p class="wrong" id="wrong">{html.escape(view.wrong)}</p>' if view.wrong else ""
        refresh = '<meta http-equiv="refresh" content="1">' if view.waits else ""
        return (f'<!doctype html><html lang="en"><meta charset="utf-8">{refresh}<title>gha-fargate-runners: setup</title>'
                f"<style>{STYLE}</style><body><h1>Runners on Fargate</h1><ol>{steps}</ol>{wrong}"
                f'<p id="text">{html.escape(view.text)}</p>{view.body}</body></html>')


def button(url, manifest, text, plain=False):
    """A form that posts a manifest to GitHub."""
    return (f'<form method="post" action="{html.escape(url)}"><input type="hidden" name="manifest" '
            f'value="{html.escape(json.dumps(manifest))}"><button{" class=plain" if plain else ""} '
            f'id="{"other" if plain else "create"}">{html.escape(text)}</button></form>')


def _handler(page):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path, query = self._asked()
            if path == "/created":
                wrong = page.take(query)
                self._after(wrong)
            elif path == "/installed":
                page.events.put(("installed", query.get("setup_action", [""])[0]))
                self._after("")
            elif path == f"/{page.token}/":
                # Another may be shown while this one is on its way.
                view = page.view
                self._answer(200, page.render(view))
                view.seen.set()
            elif path == f"/{page.token}/owner.html" and page.owner_page:
                self._answer(200, page.owner_page,
                             {"Content-Disposition": 'attachment; filename="github-app-for-an-owner.html"'})
            else:
                self._answer(404, "Nothing is here.")

        def do_POST(self):
            path, _ = self._asked()
            length = min(int(self.headers.get("Content-Length") or 0), 10_000)
            form = parse_qs(self.rfile.read(length).decode(errors="replace"))
            if path == f"/{page.token}/paste":
                wrong = page.take(parse_qs(urlsplit(form.get("address", [""])[0].strip()).query))
                self._after(wrong)
            elif path == f"/{page.token}/retry":
                page.show(1, "Trying again …", waits=True)
                page.events.put(("retry", None))
                self._after("")
            else:
                self._answer(404, "Nothing is here.")

        def _asked(self):
            parts = urlsplit(self.path)
            if self.headers.get("Host") != urlsplit(page.address).netloc:
                return "", {}
            return parts.path, parse_qs(parts.query)

        def _after(self, wrong):
            """To the page itself, so that no code stays in the address bar or the history."""
            if wrong:
                page.view.wrong = wrong
            self.send_response(303)
            self.send_header("Location", page.url)
            self._always()
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _answer(self, status, text, headers=None):
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self._always()
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _always(self):
            self.send_header("Cache-Control", "no-store")
            self.send_header("Referrer-Policy", "strict-origin")
            self.send_header("X-Frame-Options", "DENY")
            self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; "
                                                        "frame-ancestors 'none'; base-uri 'none'")

        def log_message(self, *_):
            """Addresses hold codes, so nothing is written of them."""

    return Handler
