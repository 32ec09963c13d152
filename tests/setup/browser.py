"""A real browser, headless, driven over the WebDriver protocol: https://www.w3.org/TR/webdriver2/."""

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--window-size=800,720"]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
SECONDS = 120


def missing():
    """What is not installed; none: the tests can run."""
    return [program for program in ("chromium", "chromedriver") if not shutil.which(program)]


class Browser:
    """One browser with a profile of its own; a context manager. Remembers every page and address that it showed."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="gha-fargate-runners-browser-")
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                       text=True)
        self.session = None
        for line in self.driver.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                self.root = f"http://127.0.0.1:{found[1]}"
                break
        options = {"binary": shutil.which("chromium"), "args": [*FLAGS, f"--user-data-dir={self.folder.name}"]}
        made = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}})
        self.session, self.seen = made["sessionId"], []
        return self

    def __exit__(self, *_):
        try:
            if self.session:
                self.call("DELETE", f"/session/{self.session}")
        finally:
            self.driver.terminate()
            self.driver.wait()
            self.driver.stdout.close()
            self.folder.cleanup()

    def call(self, method, path, body=None):
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.root + path, method=method, data=data)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=SECONDS) as answer:
                return json.loads(answer.read())["value"]
        except urllib.error.HTTPError as error:
            raise LookupError(json.loads(error.read())["value"]["message"]) from None

    def do(self, method, path, body=None):
        return self.call(method, f"/session/{self.session}{path}", body)

    def open(self, url):
        self.do("POST", "/url", {"url": url})
        self.note()

    def address(self):
        return self.do("GET", "/url")

    def back(self):
        self.do("POST", "/back")
        self.note()

    def source(self):
        return self.do("GET", "/source")

    def note(self):
        self.seen.append((self.address(), self.source()))

    def find(self, css):
        return self.do("POST", "/element", {"using": "css selector", "value": css})[ELEMENT]

    def click(self, css):
        """Waits for it; pages that refresh themselves may take it away in between."""
        def clicked():
            self.do("POST", f"/element/{self.find(css)}/click")
            return True

        self.until(f"click {css}", clicked)
        self.note()

    def type(self, css, text):
        element = self.find(css)
        self.do("POST", f"/element/{element}/clear")
        self.do("POST", f"/element/{element}/value", {"text": text})

    def text(self, css="body"):
        return self.do("GET", f"/element/{self.find(css)}/text")

    def sees(self, text):
        """Waits until the page says so."""
        self.until(f"the page says {text!r}", lambda: text in self.text())
        self.note()

    def until(self, what, ready):
        deadline, last = time.monotonic() + SECONDS, None
        while time.monotonic() < deadline:
            try:
                if ready():
                    return
            except LookupError as error:
                last = error
            time.sleep(0.1)
        raise AssertionError(f"{what}: not within {SECONDS} s ({last})\n{self.address()}\n{self.text()[:1500]}")

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.do("GET", "/screenshot")))
