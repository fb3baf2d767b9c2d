"""Errors in the shape that OpenAI's clients read: {"error": {message, type, param, code}}."""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

T = TypeVar("T")
KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = headers

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body."""
        kind = "server_error" if self.status >= 500 else KINDS.get(self.status, "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body, self.status, self.headers)


FAULT = ApiError(500, "a fault of rawgpt, not of yours: see the server's log", code="internal_error")
TIMEOUT = ApiError(504, "the answer took longer than this server lets one take", code="timeout")


def as_api_error(error: Exception) -> ApiError:
    """Return what a client is told of an exception."""
    if isinstance(error, ApiError):
        return error
    return TIMEOUT if isinstance(error, TimeoutError) else FAULT


def invalid_value(error: ValueError) -> ApiError:
    """Return the 400 of a ValueError, which names its key in front of a colon."""
    key = str(error).partition(":")[0]
    return ApiError(400, str(error), code="invalid_value", param=key if key.isidentifier() else None)


def refusing(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call; a ValueError becomes a 400."""
    try:
        return function(*args, **kwargs)
    except ValueError as error:
        raise invalid_value(error) from error


def install_error_handlers(app: FastAPI) -> None:
    """Give every error of the app the one shape."""

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(TimeoutError)
    async def late(request: Request, error: TimeoutError) -> JSONResponse:
        return TIMEOUT.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _first_mistake(error).response()

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 404:
            message = f"{request.url.path}: no such path; the paths are listed at /openapi.json"
            return ApiError(404, message, code="unknown_path").response()
        if error.status_code == 405:
            message = f"{request.url.path}: {request.method} is not allowed here"
            headers = dict(error.headers or {})
            return ApiError(405, message, code="method_not_allowed", headers=headers).response()
        return ApiError(error.status_code, str(error.detail), code="bad_request").response()

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        return FAULT.response()  # the traceback goes to the server's log, nothing of it to the client


def _first_mistake(error: RequestValidationError) -> ApiError:
    """Name the first wrong key of a request."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {first['ctx']['error']}", code="invalid_json")
    path = [str(part) for part in first["loc"][1:]]
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown key; leave it out"
    if not path:  # a rule about the whole body names its key itself, in front of a colon
        key = message.partition(":")[0]
        return ApiError(400, message, code="invalid_value", param=key if key.isidentifier() else None)
    return ApiError(400, f"{'.'.join(path)}: {message}", code="invalid_value", param=path[0])
