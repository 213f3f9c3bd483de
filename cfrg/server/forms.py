"""Photographs out of a request: its body is one, or a form holds one or many."""

from __future__ import annotations

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request

from cfrg.server.bodies import BoundedBody, ClientGoneError
from cfrg.server.photographs import Photograph
from cfrg.server.refusals import RefusedError

__all__ = ["read_photographs"]

FIELD = "image"

_EXPECTED = (
    "Send one image as the body, with `Content-Type: image/png` or its like, or some as the files "
    "`image` of a form (multipart/form-data)."
)


async def read_photographs(
    request: Request, body: BoundedBody, most: int
) -> tuple[list[Photograph], bool]:
    """Return the images of a request, and whether they are several.

    Args:
        request: Its header.
        body: Its body.
        most: Images a form may hold.

    Raises:
        RefusedError: 400, 408, 413 or 415, with what is expected.
        ClientGoneError: If it ends before its end.
    """
    kinds = request.headers.getlist("content-type")
    kind = kinds[0].partition(";")[0].strip().lower() if len(kinds) == 1 else ""
    encoded = request.headers.get("content-encoding", "identity") != "identity"
    if kind.startswith("image/") and not encoded:
        content = await body.read()
        if not content:
            raise RefusedError(400, f"The body is empty. {_EXPECTED}")
        name = request.query_params.get("id", "0")
        return [Photograph(name[:200], content)], False
    if kind == "multipart/form-data" and not encoded:
        photographs = await _read_form(request, body, most)
        return photographs, len(photographs) > 1
    await body.drop()
    raise RefusedError(415, _EXPECTED)


async def _read_form(request: Request, body: BoundedBody, most: int) -> list[Photograph]:
    # In the scope of an application, a broken form would be told from others by its text alone.
    scope = {key: value for key, value in request.scope.items() if key != "app"}
    try:
        async with Request(scope, body).form(max_files=most, max_fields=8) as form:
            parts = form.getlist(FIELD)
            files = [part for part in parts if isinstance(part, UploadFile)]
            if not files or len(files) < len(parts):
                raise RefusedError(400, f"The form holds no file `{FIELD}`. {_EXPECTED}")
            return [
                Photograph((file.filename or str(n))[:200], await file.read())
                for n, file in enumerate(files)
            ]
    except ClientDisconnect:
        raise ClientGoneError from None
    except (MultiPartException, HTTPException, ValueError, LookupError) as error:
        await body.drop()
        if "Too many files" in str(getattr(error, "message", "")):
            raise RefusedError(413, f"This server takes up to {most} images a request.") from None
        raise RefusedError(400, f"The form cannot be read. {_EXPECTED}") from None
