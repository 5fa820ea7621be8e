"""An OpenAI-compatible endpoint that does what a script says: answers, errs, stalls, lies."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Deed = tuple[int, str, dict[str, str]] | None
"""Status, body and headers of a response; None: nothing is ever said."""


def completion(text: str | None, finish_reason: str = "stop") -> Deed:
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return 200, json.dumps(body), {}


def failure(status: int, message: str = "no", **headers: str) -> Deed:
    return status, json.dumps({"error": {"message": message}}), headers


class Server:
    """`does` is told the body of each request and how often it came before; `asked` lists the bodies."""

    def __init__(self, does: Callable[[dict[str, Any], int], Deed]) -> None:
        self.does, self.asked, self.keys, self.release = does, [], [], threading.Event()
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with server._lock:
                    before = server.asked.count(json.loads(body))
                    server.asked.append(json.loads(body))
                    server.keys.append(self.headers.get("Authorization"))
                deed = server.does(json.loads(body), before)
                if deed is None:
                    server.release.wait(30)
                    return
                status, text, headers = deed
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def start(self) -> None:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.release.set()
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def serving(does: Callable[[dict[str, Any], int], Deed]) -> Iterator[Server]:
    server = Server(does)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def shown(body: dict[str, Any]) -> tuple[str, str]:
    """The two responses that a request shows, as A and as B."""
    parts = body["messages"][1]["content"].split("<<<\n")
    first, second = (part.partition("\n>>>")[0] for part in parts[2:4])
    return first, second
