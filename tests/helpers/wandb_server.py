"""A minimal Weights & Biases server, enough to start a run and to save a view; it records the requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

USER = {"id": "VXNlcg==", "entity": "somebody", "username": "somebody", "flags": "{}", "teams": {"edges": []}}


class Server(ThreadingHTTPServer):
    """``asked``: names and variables of the GraphQL queries, in order. ``address`` is for WANDB_BASE_URL."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def vanish(self) -> None:
        """Stops answering."""
        self.shutdown()
        self.server_close()


@contextmanager
def wandb_server() -> Iterator[Server]:
    server = Server()
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        server.vanish()


class _Answers(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer: dict[str, Any] = {}
        if self.path.startswith("/graphql"):
            query = json.loads(body)
            name = re.search(r"(?:query|mutation)\s+(\w+)", query["query"])[1]
            variables = query.get("variables") or {}
            self.server.asked.append((name, variables))
            answer = {"data": _answer(name, variables)}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_POST

    def log_message(self, *_: Any) -> None:
        """Suppresses the log."""


def _answer(name: str, asked: dict[str, Any]) -> dict[str, Any]:
    owner = {"id": "RQ==", "name": "somebody"}
    project = {"id": "UA==", "internalId": "1", "name": "a-project", "entityName": "somebody", "entity": owner}
    if name == "UpsertBucket":
        run = {"id": "Ug==", "name": asked["name"], "displayName": asked["displayName"], "config": "{}"}
        return {"upsertBucket": {"bucket": run | {"historyLineCount": 0, "project": project}, "inserted": True}}
    if name == "RunResumeStatus":
        return {"model": project | {"bucket": None}}
    if "upsertview" in name.lower():
        view = {key: asked.get(key) for key in ("name", "displayName", "description", "spec", "type")}
        return {"upsertView": {"view": view | {"id": "Vg==", "project": project}, "inserted": True}}
    if name == "GetProjects":
        page = {"endCursor": None, "hasNextPage": False}
        node = project | {"createdAt": "2018-09-23T00:00:00", "isBenchmark": False, "user": None}
        return {"models": {"pageInfo": page, "edges": [{"node": node}]}}
    return {"viewer": USER, "project": project, "model": project}
