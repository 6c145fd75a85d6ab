"""A JupyterHub that runs as a process beside a cluster: the example for hubs without z2jh; tests and demo use it too.

    jupyterhub --config jupyterhub-config/process_hub.py

The rights that it needs are in hub-rbac.yaml and in Leasehold's chart, Leasehold's own settings in
leasehold_hub.SETTINGS. What is read here from the environment is about this hub:

| variable | default | |
|---|---|---|
| KUBECONFIG | required | the hub's own identity in the cluster; it is read before this file, and can't be set here |
| HUB_ADDRESS | required | of this machine, as notebooks reach it; ports 8000 (people), 8081 (hub) |
| HUB_STATE | required | directory for database, cookie secret and process ids |
| HUB_NAMESPACE | hub | of notebooks; labelled leasehold.dev/users=true |
| HUB_NOTEBOOK_IMAGE | required | its user is 1000:100 with home /home/jovyan |
| HUB_NOTEBOOK_PULL_POLICY | Never | |
| HUB_STORAGE_CLASS | home | of the homes |
| HUB_PROXY | configurable-http-proxy | the proxy's command, see proxy/ |
| HUB_AUTHENTICATOR | dummy | an entry point such as generic-oauth, configured by a file in HUB_MORE |
| HUB_API_TOKEN | none | of a service that may start and stop anybody's notebook |
| HUB_MORE | none | a configuration file that is read before Leasehold's hook is added |
"""

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import leasehold_hub

c: Any = get_config()  # type: ignore[name-defined]  # noqa: F821


def setting(name: str, default: str | None = None) -> str:
    """Read a variable of the table above."""
    value = os.environ.get(name, default)
    if value is None:
        raise ValueError(f"{name} is not set")
    return value


setting("KUBECONFIG")
address = setting("HUB_ADDRESS")
state = Path(setting("HUB_STATE"))

c.JupyterHub.bind_url = f"http://{address}:8000"
c.JupyterHub.hub_bind_url = f"http://{address}:8081"
c.JupyterHub.hub_connect_url = f"http://{address}:8081"
c.JupyterHub.db_url = f"sqlite:///{state / 'jupyterhub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(state / "cookie_secret")
c.JupyterHub.pid_file = str(state / "hub.pid")
# Notebooks outlive a hub that restarts.
c.JupyterHub.cleanup_servers = False
c.ConfigurableHTTPProxy.command = setting("HUB_PROXY", "configurable-http-proxy").split()
c.ConfigurableHTTPProxy.pid_file = str(state / "proxy.pid")

c.JupyterHub.authenticator_class = setting("HUB_AUTHENTICATOR", "dummy")
c.Authenticator.allow_all = True
if c.JupyterHub.authenticator_class != "dummy":
    # The person's JWT is kept for the spawner-hook; needs JUPYTERHUB_CRYPT_KEY.
    c.Authenticator.enable_auth_state = True
elif not os.environ.get("HUB_MORE"):
    # Whoever operates this hub drives it through the API; nobody signs in at its form.
    c.DummyAuthenticator.password = os.urandom(32).hex()

if os.environ.get("HUB_API_TOKEN"):
    c.JupyterHub.services = [{"name": "operator", "api_token": os.environ["HUB_API_TOKEN"]}]
    c.JupyterHub.load_roles = [
        {"name": "operator", "services": ["operator"], "scopes": ["admin:users", "admin:servers", "read:hub"]}
    ]

c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.KubeSpawner.namespace = setting("HUB_NAMESPACE", "hub")
c.KubeSpawner.image = setting("HUB_NOTEBOOK_IMAGE")
c.KubeSpawner.image_pull_policy = setting("HUB_NOTEBOOK_PULL_POLICY", "Never")
c.KubeSpawner.uid = 1000
c.KubeSpawner.gid = 100
c.KubeSpawner.fs_gid = 100
c.KubeSpawner.storage_pvc_ensure = True
c.KubeSpawner.storage_class = setting("HUB_STORAGE_CLASS", "home")
c.KubeSpawner.storage_capacity = "1Gi"
c.KubeSpawner.volumes = {"home": {"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}}
c.KubeSpawner.volume_mounts = {"home": {"name": "home", "mountPath": "/home/jovyan"}}
c.KubeSpawner.start_timeout = 120
c.KubeSpawner.http_timeout = 90
c.Spawner.notebook_dir = "/home/jovyan"

if os.environ.get("HUB_MORE"):
    load_subconfig(os.environ["HUB_MORE"])  # type: ignore[name-defined]  # noqa: F821

leasehold_hub.configure(c)
