"""A Hugging Face hub on loopback, for tests: directories of this machine as repositories, and faults on demand.

Weight files have checksums as files in LFS have on the hub: the listing states size and sha256, the download is plain.
"""

import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + 34 * "0"
LARGE = (".safetensors", ".bin", ".pth")


@dataclass
class Hub:
    """A running hub.

    Attributes:
        url: Its address.
        repositories: Hub id → directory.
        files: Path → file, for downloads that are not of a repository.
        sent: Path of a file in its repository → bytes that are sent instead of the file's own.
        cut: Names of files whose transfer is cut in the middle.
        gated: Hub ids whose licence must be accepted first.
        requests: Paths of all requests, in order.
        portal: A page that answers every request instead; None for a hub.
    """

    portal: ClassVar[bytes | None] = None

    url: str = ""
    repositories: dict[str, Path] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    sent: dict[str, bytes] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)

    def downloads(self):
        """Return the paths of files that were downloaded, within their repositories."""
        return [path.split(f"/resolve/{COMMIT}/")[1] for path in self.requests if f"/resolve/{COMMIT}/" in path]


@contextmanager
def serve_hub():
    """Start a hub and stop it at the end."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield hub
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(path)
        self.answer(with_body=True)

    def answer(self, with_body):
        path = unquote(urlsplit(self.path).path)
        if path == "/" or self.hub.portal is not None:
            self.send(self.hub.portal or b"hub", {}, with_body)
        elif path in self.hub.files:
            self.send_file(path, self.hub.files[path], with_body)
        elif path.startswith("/api/models/"):
            self.send_listing(path.removeprefix("/api/models/"), with_body)
        elif "/resolve/" in path:
            name, _, rest = path[1:].partition("/resolve/")
            file = rest.partition("/")[2]
            self.send_of_repository(name, file, with_body)
        else:
            self.refuse(404, "EntryNotFound")

    def send_listing(self, path, with_body):
        name = "/".join(path.split("/")[:2])
        if name not in self.hub.repositories:
            self.refuse(401, "RepoNotFound")
        elif f"{name}/tree/" in path:
            self.send_json([*map(self.entry_of(name), self.files_of(name))], with_body)
        elif path.endswith(("/revision/main", f"/revision/{COMMIT}")) or path == name:
            siblings = [{"rfilename": file} for file in self.files_of(name)]
            self.send_json({"_id": "1", "id": name, "sha": COMMIT, "siblings": siblings, "tags": []}, with_body)
        else:
            self.refuse(404, "RevisionNotFound")

    def files_of(self, name):
        root = self.hub.repositories[name]
        return [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]

    def entry_of(self, name):
        def entry(file):
            content = (self.hub.repositories[name] / file).read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            data = {"type": "file", "path": file, "size": len(content), "oid": digest[:40]}
            large = {"lfs": {"oid": digest, "size": len(content), "pointerSize": 134}}
            return data | (large if file.endswith(LARGE) else {})

        return entry

    def send_of_repository(self, name, file, with_body):
        if name not in self.hub.repositories:
            self.refuse(401, "RepoNotFound")
        elif name in self.hub.gated:
            self.refuse(403, "GatedRepo")
        elif not (self.hub.repositories[name] / file).is_file():
            self.refuse(404, "EntryNotFound")
        else:
            self.send_file(file, self.hub.repositories[name] / file, with_body)

    def send_file(self, name, path, with_body):
        content = self.hub.sent.get(name, path.read_bytes())
        etag = hashlib.sha256(path.read_bytes()).hexdigest()
        self.send(content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, with_body, cut=name in self.hub.cut)

    def send_json(self, data, with_body):
        self.send(json.dumps(data).encode(), {"Content-Type": "application/json"}, with_body)

    def send(self, content, headers, with_body, cut=False):
        self.send_response(200)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(content[: len(content) // 2] if cut else content)
            self.close_connection = cut

    def refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments):
        """Keep the test's output clean."""
