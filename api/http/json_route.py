"""Routes whose body is read and checked before the framework looks at it: strictly, whole, and apart from the event loop if it is large."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from rosterlog.api.http import strict_json
from rosterlog.api.http.apart import INLINE_BYTES, apart
from rosterlog.api.http.problems import InvalidForm, errors_of
from rosterlog.api.http.strict_json import BadJson

MOST_FIELDS = 100
"""Most fields of an object that is not settings: many more than any has, so that one of 30,000 is not 30,000 errors."""


class JsonRoute(APIRoute):
    """A route of the API; what it takes from the body reaches it checked, as an instance of its model."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the framework's handler, with the body already read."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle
        form: type[BaseModel] = self.body_field.field_info.annotation  # type: ignore[assignment]  # each of ours is a model

        async def checked(request: Request) -> Response:
            body: bytes = request.state.body
            made = (
                _made(form, body) if len(body) <= INLINE_BYTES else await apart(_made, form, body)
            )
            return await handle(_Checked(request, body, made))

        return checked


class _Checked(Request):
    """A request whose body is an instance of the route's model."""

    def __init__(self, request: Request, body: bytes, made: BaseModel) -> None:
        super().__init__(request.scope, request.receive)
        self._bytes, self._made = body, made

    async def body(self) -> bytes:
        return self._bytes

    async def json(self) -> Any:
        return self._made


def _made(form: type[BaseModel], body: bytes) -> BaseModel:
    try:
        value = strict_json.read(body)
        refuse_many_fields(value)
        return form.model_validate(value)
    except BadJson as wrong:
        raise InvalidForm(
            [{"pointer": wrong.pointer, "rule": wrong.rule, "detail": wrong.detail}]
        ) from None
    except ValidationError as wrong:
        raise InvalidForm(errors_of(wrong, "body")) from None


def refuse_many_fields(value: object) -> None:
    """Raise `BadJson` for an object with more fields than any of the API's has."""
    if isinstance(value, dict) and len(value) > MOST_FIELDS:
        raise BadJson(
            "", "fields", f"an object with {len(value)} fields; {MOST_FIELDS} are allowed"
        )
