"""A hub that only answers for its API: no proxy process, no notebooks."""

import os
from typing import Any

from jupyterhub.proxy import Proxy


class NoProxy(Proxy):  # type: ignore[misc]
    """Routes nothing."""

    should_start = False

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        """Do nothing."""

    async def delete_route(self, routespec: str) -> None:
        """Do nothing."""

    async def get_all_routes(self) -> dict[str, Any]:
        """Know no route."""
        return {}


c: Any = get_config()  # type: ignore[name-defined]  # noqa: F821

state = os.environ["HUB_STATE"]
c.JupyterHub.hub_ip = "127.0.0.1"
c.JupyterHub.hub_port = int(os.environ["HUB_PORT"])
c.JupyterHub.bind_url = f"http://127.0.0.1:{os.environ['HUB_PUBLIC_PORT']}"
c.JupyterHub.db_url = "sqlite://"
c.JupyterHub.cookie_secret_file = f"{state}/cookie_secret"
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.services = [
    {"name": "tests", "api_token": os.environ["HUB_API_TOKEN"]},
    {"name": "leasehold"},
    {"name": "another"},
]
c.JupyterHub.load_roles = [
    {"name": "tests", "services": ["tests"], "scopes": ["admin:users", "admin:groups", "tokens"]},
    {
        "name": "user",
        "scopes": ["self", "access:services!service=leasehold", "access:services!service=another"],
    },
]
