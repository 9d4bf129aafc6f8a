"""An S3 server on loopback, in a process of its own that takes orders: it can refuse, and keeps a log.

Orders are lines on its standard input, each answered by one line. ``refuse STATUS CODE PATTERN`` answers each
request whose method and path fit the pattern with that error, ``hang PATTERN`` gives no answer to them for a
minute, ``allow`` ends either, ``log`` gives all requests
since the last ``log`` as JSON: method, path, bytes of the body, bytes of the answer.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

BUCKET = "bucket"


class _Door:
    """In front of the server: lets through, refuses, writes down."""

    def __init__(self, server: Callable[..., Iterable[bytes]]) -> None:
        self._server = server
        self._refused: tuple[str, str, re.Pattern[str]] | None = None
        self._open = threading.Event()
        self.log: list[tuple[str, str, int, int]] = []

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        asked, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        query = environ.get("QUERY_STRING", "")
        # What is sent in chunks says its own size.
        told = environ.get("HTTP_X_AMZ_DECODED_CONTENT_LENGTH") or environ.get("CONTENT_LENGTH")
        size = int(told or 0)
        if self._refused and self._refused[2].search(f"{asked} {path}?{query}"):
            environ["wsgi.input"].read()
            status, code, _ = self._refused
            if status == "hang":
                self._open.wait(60)
                status = "503"
            body = f"<Error><Code>{code}</Code><Message>refused</Message></Error>".encode()
            headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
            start(f"{status} Refused", [*headers, ("Connection", "close")])
            return [] if asked == "HEAD" else [body]
        answer = list(self._server(environ, start))
        self.log.append((asked, path, size, sum(map(len, answer))))
        return answer

    def obey(self, order: str) -> object:
        word, *rest = order.split(maxsplit=3)
        if word == "log":
            taken, self.log = self.log, []
            return taken
        self._open.clear() if word == "hang" else self._open.set()
        if word == "hang":
            rest = ["hang", "SlowDown", *rest]
        self._refused = (rest[0], rest[1], re.compile(rest[2])) if rest else None
        return word


def serve() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_request(self, *_: object, **__: object) -> None:
            """Nothing: the door writes down what counts."""

    door = _Door(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, door, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    for line in sys.stdin:
        print(json.dumps(door.obey(line.strip())), flush=True)


class Store:
    """The process, from outside, with one bucket."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve()"],
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        port = int(self._process.stdout.readline())
        self.variables = {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "a-key-of-a-test",
            "AWS_SECRET_ACCESS_KEY": "a-secret-of-a-test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self) -> None:
        """To be called with ``variables`` in the environment."""
        fs = importlib.import_module("pyarrow.fs")
        fs.FileSystem.from_uri(f"s3://{BUCKET}?allow_bucket_creation=true")[0].create_dir(BUCKET)

    def refuse(self, status: int, code: str, pattern: str) -> None:
        self._order(f"refuse {status} {code} {pattern}")

    def hang(self, pattern: str) -> None:
        self._order(f"hang {pattern}")

    def allow(self) -> None:
        self._order("allow")

    def log(self) -> list[tuple[str, str, int, int]]:
        return [(m, p, sent, got) for m, p, sent, got in self._order("log")]

    def _order(self, order: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
