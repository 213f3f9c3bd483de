"""What the page of the API says of each address (OpenAPI)."""

from __future__ import annotations

from typing import Any

from cfrg.server.answers import MAP_FORMATS

__all__ = [
    "INFER",
    "LIVE",
    "METRICS",
    "MODEL_METADATA",
    "MODEL_READY",
    "POLICY",
    "PREDICT",
    "PREDICT_BY",
    "READY",
    "RUNS",
    "SERVER",
    "SERVER_METADATA",
]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
"""The page loads nothing and runs nothing."""

SERVER = (
    "Anomaly detectors for photographs of parts. A refusal is JSON, `error` a sentence. Where the "
    "server asks for a token, send `Authorization: Bearer TOKEN`."
)

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_WHOLE: Schema = {"type": "integer"}
_BINARY: Schema = {"type": "string", "format": "binary"}


def _object(optional: tuple[str, ...] = (), **properties: Schema) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _list(items: Schema, length: int | None = None) -> Schema:
    bounds = {} if length is None else {"minItems": length, "maxItems": length}
    return {"type": "array", "items": items, **bounds}


_REGION = _object(box=_list(_WHOLE, 4), area=_WHOLE, score=_NUMBER)

_MAP = _object(
    ("scale", "offset"),
    format={"type": "string", "enum": list(MAP_FORMATS)},
    size=_list(_WHOLE, 2),
    scale=_NUMBER,
    offset=_NUMBER,
    data={"type": "string", "format": "byte"},
)

_PREDICTION = _object(
    ("map",),
    id=_TEXT,
    score=_NUMBER,
    decision={"type": ["string", "null"]},
    size=_list(_WHOLE, 2),
    regions={"oneOf": [_list(_REGION), {"type": "null"}]},
    milliseconds={"type": "object", "additionalProperties": _NUMBER},
    map=_MAP,
)

_PREDICTION_SHOWN: Schema = {
    "id": "part.png",
    "score": 4.81,
    "decision": "defective",
    "size": [1280, 1024],
    "regions": [{"box": [412, 300, 38, 12], "area": 301, "score": 6.2}],
    "milliseconds": {"read": 9.1, "network": 41.5, "regions": 0.8},
}

_FAILURE = _object(("id",), id=_TEXT, error=_TEXT)

_TENSOR = _object(
    ("parameters", "data"),
    name=_TEXT,
    datatype=_TEXT,
    shape=_list(_WHOLE),
    parameters={"type": "object"},
    data=_list({}),
)

_REFUSALS = {
    "400": "The request is not understood.",
    "401": "The token is missing or another one.",
    "403": "The server is not known by this name, or a script of another site asks.",
    "404": "There is no such run.",
    "408": "The body did not come in time.",
    "413": "The body, an image or the number of images is larger than allowed.",
    "415": "The body is neither an image nor a form.",
    "422": "The image is broken, or none.",
    "429": "Too many requests are waiting; `Retry-After` says when to ask again.",
    "503": "The server is about to end.",
    "504": "There was no answer in time.",
}


def _json(schema: Schema, example: Schema | None = None) -> Schema:
    content = {"schema": schema} if example is None else {"schema": schema, "example": example}
    return {"application/json": content}


def _responses(said: str, content: Schema, *refusals: str) -> Schema:
    responses: Schema = {"200": {"description": said, "content": content}}
    for status in refusals:
        responses[status] = {"description": _REFUSALS[status], "content": _json(_FAILURE)}
    return responses


def _parameter(name: str, where: str, said: str, schema: Schema = _TEXT) -> Schema:
    required = where == "path"
    return {
        "name": name, "in": where, "required": required, "description": said, "schema": schema
    }  # fmt: skip


def _address(
    summary: str,
    description: str,
    responses: Schema,
    *parameters: Schema,
    body: Schema | None = None,
) -> dict[str, Any]:
    openapi: Schema = {"responses": responses, "parameters": list(parameters)}
    if body is not None:
        openapi["requestBody"] = {"required": True, "content": body}
    return {"summary": summary, "description": description, "openapi": openapi}


_NAME = _parameter("name", "path", "The run, as `GET /runs` lists it.")
_PARAMETERS = (
    _parameter(
        "map",
        "query",
        "Send the anomaly map, too: a file in base64. `npy` keeps every bit; of `png16`, 16-bit "
        "grey, a value stands for `offset + scale · value`.",
        {"type": "string", "enum": list(MAP_FORMATS)},
    ),
    _parameter("id", "query", "What to call the image of a body; that of a form has its name."),
)
_IMAGES = {
    "image/*": {"schema": _BINARY},
    "multipart/form-data": {"schema": _object(image=_list(_BINARY))},
}
_PREDICTIONS = _responses(
    "A prediction; of several images a list `predictions`, in which an image that cannot be used "
    "has an `error`.",
    _json(
        {"oneOf": [_PREDICTION, _object(predictions=_list(_PREDICTION))]},
        _PREDICTION_SHOWN,
    ),
    *_REFUSALS,
)

PREDICT = _address(
    "Look at photographs",
    "One image as the body, or one or many as the files `image` of a form: PNG, JPEG, BMP, TIFF, "
    "WebP, GIF, PPM.",
    _PREDICTIONS,
    _parameter("run", "query", "Which run; needed where there are several."),
    *_PARAMETERS,
    body=_IMAGES,
)
PREDICT_BY = _address(
    "Look at photographs with one of several runs",
    "As `POST /predict`.",
    _PREDICTIONS,
    _NAME,
    *_PARAMETERS,
    body=_IMAGES,
)
RUNS = _address(
    "What runs there are",
    "",
    _responses(
        "The runs; sizes are width and height.", _json(_object(runs=_list({"type": "object"})))
    ),
)
LIVE = _address(
    "Is the server there?",
    "Answered without a token.",
    _responses("It is.", _json(_object(live={"type": "boolean"}))),
)
READY = _address(
    "Does it take requests?",
    "Answered without a token.",
    _responses("It does.", _json(_object(ready={"type": "boolean"})), "503"),
)
SERVER_METADATA = _address(
    "What the server is",
    "",
    _responses("Name, version, extensions.", _json(_object(name=_TEXT, version=_TEXT))),
)
MODEL_METADATA = _address(
    "The tensors of a run",
    "",
    _responses(
        "Inputs and outputs.",
        _json(_object(name=_TEXT, inputs=_list(_TENSOR), outputs=_list(_TENSOR))),
        "404",
    ),
    _NAME,
)
MODEL_READY = _address(
    "Does a run take requests?",
    "",
    _responses("It does.", _json(_object(ready={"type": "boolean"})), "404", "503"),
    _NAME,
)
INFER = _address(
    "Look at images as tensors",
    "Open Inference Protocol, version 2, with the extension for binary tensors. The input `image` "
    "is BYTES (N), image files, in JSON in base64; or UINT8 (H, W, 3) or (N, H, W, 3), RGB. "
    "Without `outputs` all are sent, the large `anomaly_map` included.",
    _responses(
        "The tensors.",
        _json(
            _object(("id",), model_name=_TEXT, id=_TEXT, outputs=_list(_TENSOR)),
            {
                "model_name": "stator",
                "outputs": [{"name": "score", "datatype": "FP32", "shape": [1], "data": [4.81]}],
            },
        ),
        *(status for status in _REFUSALS if status != "415"),
    ),
    _NAME,
    body=_json(
        _object(("id", "outputs"), id=_TEXT, inputs=_list(_TENSOR), outputs=_list(_TENSOR)),
        {
            "inputs": [
                {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["iVBORw0KGgo…"]}
            ],
            "outputs": [{"name": "score"}],
        },
    ),
)
METRICS = _address(
    "Figures for Prometheus",
    "Requests, seconds, places, images by decision.",
    _responses("Text format 0.0.4.", {"text/plain": {"schema": _TEXT}}),
)
