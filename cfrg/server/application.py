"""The addresses of the server: photographs, tensors, figures, health."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from cfrg.server import descriptions, tensors
from cfrg.server.answers import MAP_FORMATS, describe
from cfrg.server.bodies import BoundedBody, ClientGoneError
from cfrg.server.forms import read_photographs
from cfrg.server.refusals import RefusedError
from cfrg.server.runs import ServedRun, choose_run
from threecad.pages.rendering import render_template
from threecad.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from cfrg.inference.prediction import Prediction
    from cfrg.server.desk import Desk
    from cfrg.server.meters import Meters
    from cfrg.server.photographs import Photograph

__all__ = ["Limits", "Service", "make_application"]


@dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    Attributes:
        max_bytes: Of a body.
        max_pixels: Of an image.
        max_images: In a request.
        timeout: Seconds from the header to the answer.
    """

    max_bytes: int = 32 << 20
    max_pixels: int = 1 << 25
    max_images: int = 64
    timeout: float = 30.0


@dataclass(frozen=True)
class Service:
    """Runs, and who computes for them.

    Attributes:
        runs: By name.
        desk: Where requests wait.
        meters: Count what is asked.
        limits: Of a request.
    """

    runs: Mapping[str, ServedRun]
    desk: Desk
    meters: Meters = field(repr=False)
    limits: Limits

    async def predict(self, request: Request) -> Response:
        """Answer ``POST /predict``."""
        run = choose_run(self.runs, _one(request, "run"))
        return await self._predict(request, run)

    async def predict_by(self, request: Request) -> Response:
        """Answer ``POST /runs/{name}/predict``."""
        return await self._predict(request, choose_run(self.runs, request.path_params["name"]))

    async def _predict(self, request: Request, run: ServedRun) -> Response:
        map_format = _one(request, "map")
        if map_format not in (None, *MAP_FORMATS):
            raise RefusedError(400, f"`map` is one of {', '.join(MAP_FORMATS)}.")
        until = time.monotonic() + self.limits.timeout
        with self.desk.place():
            body = self._body(request)
            photographs, several = await read_photographs(request, body, self.limits.max_images)
            predictions = await self._look_at(request, run, photographs, until)
        said = await asyncio.to_thread(
            lambda: [describe(prediction, map_format) for prediction in predictions]
        )
        if several:
            return JSONResponse({"predictions": said})
        return JSONResponse(said[0], status_code=422 if "error" in said[0] else 200)

    async def infer(self, request: Request) -> Response:
        """Answer ``POST /v2/models/{name}/infer``."""
        run = choose_run(self.runs, request.path_params["name"])
        until = time.monotonic() + self.limits.timeout
        with self.desk.place():
            body = await self._body(request).read()
            asked = await asyncio.to_thread(
                tensors.parse,
                body,
                request.headers.get("inference-header-content-length"),
                self.limits.max_images,
            )
            predictions = await self._look_at(request, run, asked.photographs, until)
            for prediction in predictions:
                if prediction.error is not None:
                    raise RefusedError(422, f"Image {prediction.id}: {prediction.error}")
            content, json_length = await asyncio.to_thread(
                tensors.answer, asked, run.name, predictions
            )
        if json_length is None:
            return Response(content, media_type="application/json")
        return Response(
            content,
            media_type="application/octet-stream",
            headers={"Inference-Header-Content-Length": str(json_length)},
        )

    async def list_runs(self) -> Response:
        """Answer ``GET /runs``."""
        return JSONResponse({"runs": [run.to_dict() for run in self.runs.values()]})

    async def describe_server(self) -> Response:
        """Answer ``GET /v2``."""
        extensions = ["binary_tensor_data"]
        return JSONResponse({"name": "cfrg", "version": __version__, "extensions": extensions})

    async def describe_model(self, request: Request) -> Response:
        """Answer ``GET /v2/models/{name}``."""
        name = choose_run(self.runs, request.path_params["name"]).name
        tensors_of = {"inputs": tensors.INPUTS, "outputs": tensors.OUTPUTS}
        return JSONResponse({"name": name, "platform": "cfrg", **tensors_of})

    async def is_live(self) -> Response:
        """Answer ``GET /v2/health/live``."""
        return JSONResponse({"live": True})

    async def is_ready(self) -> Response:
        """Answer ``GET /v2/health/ready``."""
        self.desk.check_open()
        return JSONResponse({"ready": True})

    async def is_model_ready(self, request: Request) -> Response:
        """Answer ``GET /v2/models/{name}/ready``."""
        name = choose_run(self.runs, request.path_params["name"]).name
        self.desk.check_open()
        return JSONResponse({"name": name, "ready": True})

    async def show_meters(self) -> Response:
        """Answer ``GET /metrics``."""
        return Response(self.meters.render(), media_type="text/plain; version=0.0.4")

    def _body(self, request: Request) -> BoundedBody:
        limit = self.limits.max_bytes
        too_large = f"This server takes up to {limit:,} bytes a request."
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise RefusedError(413, too_large)  # before any of it is kept
        return BoundedBody(request.receive, limit, self.limits.timeout, too_large)

    async def _look_at(
        self, request: Request, run: ServedRun, photographs: list[Photograph], until: float
    ) -> list[Prediction]:
        """Have images looked at, unless there is no time or nobody waits any more."""
        for photograph in photographs:
            await asyncio.to_thread(photograph.check_size, self.limits.max_pixels)
        answer = asyncio.wrap_future(self.desk.ask(run, photographs, until))
        hung_up = asyncio.ensure_future(request.receive())  # the body is read: only that can come
        try:
            waited: set[asyncio.Future[Any]] = {answer, hung_up}
            await asyncio.wait(
                waited,
                timeout=until - time.monotonic(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not answer.done() and hung_up.done():
                raise ClientGoneError
            if not answer.done():
                raise TimeoutError
            predictions = answer.result()
        except TimeoutError:
            raise RefusedError(
                504, f"There was no answer within {self.limits.timeout:g} s.", retry_after=1
            ) from None
        finally:
            answer.cancel()
            hung_up.cancel()
        self.meters.count_predictions(run.name, predictions)
        return predictions


def make_application(service: Service) -> FastAPI:
    """Return the ASGI application of a service."""

    @asynccontextmanager
    async def live(_application: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.desk.end)

    application = FastAPI(
        title="cfrg serve",
        version=__version__,
        description=descriptions.SERVER,
        openapi_url=None,  # which turns off FastAPI's own pages, too
        lifespan=live,
    )
    for method, path, answer, said in (
        ("POST", "/predict", service.predict, descriptions.PREDICT),
        ("POST", "/runs/{name}/predict", service.predict_by, descriptions.PREDICT_BY),
        ("GET", "/runs", service.list_runs, descriptions.RUNS),
        ("GET", "/v2/health/live", service.is_live, descriptions.LIVE),
        ("GET", "/v2/health/ready", service.is_ready, descriptions.READY),
        ("GET", "/v2", service.describe_server, descriptions.SERVER_METADATA),
        ("GET", "/v2/models/{name}", service.describe_model, descriptions.MODEL_METADATA),
        ("GET", "/v2/models/{name}/ready", service.is_model_ready, descriptions.MODEL_READY),
        ("POST", "/v2/models/{name}/infer", service.infer, descriptions.INFER),
        ("GET", "/metrics", service.show_meters, descriptions.METRICS),
    ):
        application.add_api_route(
            path,
            answer,
            methods=[method],
            response_model=None,
            response_class=Response,
            summary=said["summary"],
            description=said["description"],
            openapi_extra=said["openapi"],
            operation_id=re.sub(r"\W+", "_", f"{method} {path}").strip("_").lower(),
        )

    async def show_api(request: Request) -> HTMLResponse:
        address = str(request.base_url).rstrip("/")
        page = render_template("api.html", api=application.openapi(), address=address)
        return HTMLResponse(page, headers={"Content-Security-Policy": descriptions.POLICY})

    async def describe_api(request: Request) -> JSONResponse:
        root = request.scope["root_path"]
        servers = {"servers": [{"url": root}]} if root else {}
        return JSONResponse({**application.openapi(), **servers})

    async def show_start(request: Request) -> RedirectResponse:
        return RedirectResponse(f"{request.scope['root_path']}/docs")

    for path, answer in (
        ("/", show_start),
        ("/docs", show_api),
        ("/openapi.json", describe_api),
    ):
        application.add_api_route(path, answer, response_model=None, include_in_schema=False)
    application.add_exception_handler(RefusedError, _answer_refusal)
    application.add_exception_handler(ClientGoneError, _answer_nobody)
    application.add_exception_handler(Exception, _answer_fault)
    application.add_exception_handler(HTTPException, _answer_wrong_address)
    application.add_exception_handler(RequestValidationError, _answer_wrong_address)
    return application


async def _answer_refusal(_request: Request, refusal: Any) -> JSONResponse:
    return JSONResponse({"error": str(refusal)}, refusal.status, refusal.headers)


async def _answer_fault(_request: Request, _error: Any) -> JSONResponse:
    return JSONResponse({"error": "The server made a mistake, which its log shows."}, 500)


async def _answer_nobody(_request: Request, _error: Any) -> Response:
    return Response(status_code=499)  # as web servers count it; nobody hears it


async def _answer_wrong_address(_request: Request, error: Any) -> JSONResponse:
    status = getattr(error, "status_code", 400)
    said = {404: "There is nothing at this address.", 405: "This address does not do that."}
    detail = said.get(status, str(getattr(error, "detail", error)))
    return JSONResponse({"error": detail}, status, getattr(error, "headers", None))


def _one(request: Request, name: str) -> str | None:
    """Return a parameter of the address that may be given once."""
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise RefusedError(400, f"`{name}` is given more than once.")
    return values[0] if values else None
