"""The API's description as a page, with everything that the page needs: it asks no other host for anything."""

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.responses import HTMLResponse, Response

PATH = "/docs"
_FILES = f"{PATH}/files"


def router(app: FastAPI) -> APIRouter:
    """Return the routes of the page of `app`'s OpenAPI document, and of Swagger UI's scripts and styles for it."""
    page = get_swagger_ui_html(
        openapi_url=str(app.openapi_url),
        title=f"{app.title} API",
        swagger_js_url=f"{_FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{_FILES}/swagger-ui.css",
        swagger_favicon_url=f"{_FILES}/favicon.png",
        # Otherwise it shows the document to a validator of its makers'.
        swagger_ui_parameters={"validatorUrl": None},
    )
    headers = {
        "Content-Security-Policy": _policy(bytes(page.body).decode()),
        "Referrer-Policy": "no-referrer",
    }
    static = StaticFiles(directory=str(files("fastapi_offline") / "static"))
    routes = APIRouter()

    @routes.get(PATH, operation_id="getDocs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page.body, headers=headers)

    @routes.get(f"{_FILES}/{{name}}", operation_id="getDocsFile", include_in_schema=False)
    async def docs_file(request: Request, name: str) -> Response:
        return await static.get_response(name, request.scope)

    return routes


def _policy(page: str) -> str:
    """Allow what the page needs, from here only: of scripts in the page itself, the very ones that are there."""
    inline = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in inline
    )
    return (
        f"default-src 'none'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
