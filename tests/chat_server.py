"""An OpenAI-compatible chat endpoint on this machine, which answers as a test tells it to."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

Answer = Callable[[dict[str, Any]], tuple[Any, ...]]
"""From the body of a request to the status and the body of its reply, and headers if there are any."""


class ChatServer(ThreadingHTTPServer):
    """Keeps what it was asked in `seen`."""

    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        self.answer, self.seen, self.lock = answer, list[dict[str, Any]](), threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.seen.append(body)
        self.send(*self.server.answer(body))

    def do_GET(self) -> None:
        self.send(200, {"object": "list", "data": [{"id": "llama", "object": "model"}]})

    def send(self, status: int, value: object, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, words in headers.items():
            self.send_header(name, words)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def completion(text: str | None, **more: object) -> dict[str, Any]:
    """The body of a reply that says `text`; `more` goes beside it (`logprobs`)."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}, **more}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


@contextmanager
def serving(answer: Answer) -> Iterator[ChatServer]:
    with ChatServer(answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
