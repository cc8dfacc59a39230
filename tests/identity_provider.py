"""A small OpenID Connect provider on loopback: whoever is sent to it is logged in at once, as `claims` says."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.peers import LOOPBACK, accepts_connections, free_port, wait_until

CLIENT, SECRET = "bonewatch", "a secret of the tests"


class IdentityProvider:
    """What it says of the next person can be changed between two logins, and spoiled."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"http://{LOOPBACK}:{self.port}"
        self.metadata = f"{self.address}/.well-known/openid-configuration"
        self.claims: dict[str, Any] = {"sub": "1", "preferred_username": "reader", "groups": ["radiology"]}
        self.spoiled: dict[str, Any] = {}
        self.ends_logins_at: str | None = f"{self.address}/logout?from=here"
        self.key = self.signs_with = RSAKey.generate_key(2048, {"kid": "1"})
        self._waiting: dict[str, dict[str, str]] = {}

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._metadata),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/keys", self._keys),
            ]
        )

    def settings(self, page: str) -> str:
        """Return the page's login file."""
        facts = {"provider": self.metadata, "client_id": CLIENT, "client_secret": SECRET, "page": page}
        lines = [f'{name} = "{value}"' for name, value in facts.items()]
        return "\n".join([*lines, 'viewers = ["radiology"]', 'operators = ["imaging"]', ""])

    def _metadata(self, _request: Request) -> Response:
        places = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        known = {"issuer": self.address} | {key: f"{self.address}/{at}" for key, at in places.items()}
        return JSONResponse(known | ({"end_session_endpoint": self.ends_logins_at} if self.ends_logins_at else {}))

    def _keys(self, _request: Request) -> Response:
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})

    def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        code = uuid.uuid4().hex
        self._waiting[code] = asked
        return RedirectResponse(asked["redirect_uri"] + "?" + urlencode({"code": code, "state": asked["state"]}), 303)

    async def _token(self, request: Request) -> Response:
        form = await request.form()
        asked = self._waiting.pop(str(form["code"]), None)
        known = "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(str(form["code_verifier"]).encode()).digest())
        if asked is None or request.headers["authorization"] != known:
            return JSONResponse({"error": "invalid_client"}, 401)
        if asked["code_challenge"] != challenge.decode().rstrip("=") or asked["code_challenge_method"] != "S256":
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {"iss": self.address, "aud": CLIENT, "iat": now, "exp": now + 60, "nonce": asked["nonce"]}
        token = jwt.encode({"alg": "RS256", "kid": "1"}, claims | self.claims | self.spoiled, self.signs_with)
        return JSONResponse({"access_token": "unused", "token_type": "Bearer", "id_token": token})


@contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    """Run one."""
    provider = IdentityProvider()
    with serving(provider.app(), provider.port):
        yield provider


@contextmanager
def serving(app: Any, port: int) -> Iterator[None]:
    """Serve an ASGI application on loopback, in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, host=LOOPBACK, port=port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: accepts_connections(port), 30, "the server answers")
        yield
    finally:
        server.should_exit = True
        thread.join(60)
