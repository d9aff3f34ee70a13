"""A real images endpoint on loopback for tests: it draws with the renderer, counts, and misbehaves when asked to."""

from __future__ import annotations

import base64
import io
import socket
import threading
import time
from collections import Counter

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from audit.calibration.renderer import render
from audit.calibration.world import World, draw_labels, face_noise

REFUSAL = {"error": {"code": "content_policy_violation", "type": "invalid_request_error", "message": "not this one"}}


def error(status, code=None, message="no", **headers):
    return JSONResponse({"error": {"code": code, "message": message, "type": "t"}}, status, headers=headers)


class ImageEndpoint:
    """Serves ``/v1/images/generations`` on a free port of loopback in a thread.

    Attributes:
        fault: Called with the body and the number of the request; a response that it returns is sent instead of a
            picture.
        paid: Pictures that were sent with an answer of success, by prompt.
        bodies: Bodies of all requests.
        headers: Headers of all requests.
        reachable: Whether answers name an address of the picture instead of holding it.
    """

    def __init__(self):
        self.fault, self.paid, self.bodies, self.headers = lambda _body, _number: None, Counter(), [], []
        self.reachable, self.fetched, self.lost = False, Counter(), 0
        self._world, self._lock, self._pictures = World.load(World.bundled_path()), threading.Lock(), {}
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        routes = [
            Route("/v1/images/generations", self._generate, methods=["POST"]),
            Route("/pictures/{name}", self._picture),
        ]
        config = uvicorn.Config(Starlette(routes=routes), log_level="error", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def requests(self):
        return len(self.bodies)

    def __enter__(self):
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()

    async def _generate(self, request):
        from starlette.concurrency import run_in_threadpool

        body = await request.json()
        with self._lock:
            self.bodies.append(body)
            self.headers.append(dict(request.headers))
            number = len(self.bodies)
        return await run_in_threadpool(self._answer, body, number)

    def _answer(self, body, number):
        response = self.fault(body, number)
        if response is not None:
            return response
        with self._lock:
            index = self.paid[body["prompt"]]
            self.paid[body["prompt"]] += 1
        data = self._drawing(body["prompt"], index)
        if not self.reachable:
            return JSONResponse({"created": 1, "data": [{"b64_json": base64.b64encode(data).decode()}]})
        name = f"{abs(hash(body['prompt']))}-{index}"
        self._pictures[name] = data
        found = {"url": f"http://127.0.0.1:{self.port}/pictures/{name}", "revised_prompt": f"{body['prompt']}, smiling"}
        return JSONResponse({"created": 1, "data": [found]})

    async def _picture(self, request):
        name = request.path_params["name"]
        self.fetched[name] += 1
        if self.fetched[name] <= self.lost:
            return Response(status_code=503)
        return Response(self._pictures[name], media_type="image/png")

    def _drawing(self, prompt, index):
        occupation = next((name for name in self._world.occupations if name in prompt), "doctor")
        noise = face_noise([index])
        image = render(draw_labels(self._world, occupation, noise), noise).images[0]
        buffer = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "PNG")
        return buffer.getvalue()
