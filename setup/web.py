"""One HTTP request, with the caller's proxies and certificates; redirects are not followed."""

import json
import urllib.error
import urllib.request


class Unreachable(Exception):
    """No answer. The message names the host, and nothing of the request."""


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            return {}

    def message(self):
        """What GitHub says is wrong."""
        answer = self.json()
        return str(answer.get("message", ""))[:200] if isinstance(answer, dict) else ""


class _StaysHere(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


_opener = urllib.request.build_opener(_StaysHere)


def send(method, url, headers, body=None, timeout=30):
    request = urllib.request.Request(url, method=method, data=body, headers=headers)
    try:
        with _opener.open(request, timeout=timeout) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise Unreachable(f"{urllib.request.urlparse(url).netloc} cannot be reached: {reason}") from None
