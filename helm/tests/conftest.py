"""Helm for the chart's tests: rendering without a cluster, and a real API server where one can be started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "leasehold"
NAMESPACE = "leasehold-system"
Manifest = dict[str, Any]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leasehold"


def _helm() -> str:
    built = sorted(_cache().glob("bin/helm-*/helm"))
    found = os.environ.get("LEASEHOLD_HELM") or shutil.which("helm") or (str(built[-1]) if built else None)
    if not found:
        pytest.skip("helm is neither on PATH nor built: make setup")
    return found


class Refused(Exception):
    """Helm would not render; holds what it said."""


Render = Callable[..., list[Manifest]]


@pytest.fixture(scope="session")
def render() -> Render:
    """Renders the chart with the given `--set` values; `values=` names a file beside them."""
    helm = _helm()

    def run(*settings: str, values: str | None = None, organisation: str | None = "UiSMSP") -> list[Manifest]:
        command = [helm, "template", "leasehold", str(CHART), "--namespace", NAMESPACE, "--kube-version", "1.35.4"]
        if organisation:
            command += ["--set", f"organisation={organisation}"]
        for setting in settings:
            command += ["--set-json" if "=[" in setting or "={" in setting else "--set", setting]
        done = subprocess.run(
            [*command, "--values", "-"], input=values or "{}", capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Refused(done.stderr)
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return run


def until(what: str, condition: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


@dataclass
class Cluster:
    """A real API server. `kubectl` raises [`AssertionError`] with what it said unless `check` is off."""

    prefix: list[str]
    environment: dict[str, str]

    def run(self, *command: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.prefix, *command],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=ROOT,
            env=self.environment,
        )
        if check:
            assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done

    def kubectl(self, *command: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("kubectl", *command, stdin=stdin, check=check)

    def get(self, *what: str) -> Manifest:
        answer: Manifest = json.loads(self.kubectl("get", *what, "--output", "json").stdout)
        return answer

    def apply(self, manifest: Manifest | list[Manifest], *, user: str | None = None, verb: str = "create") -> str:
        """What the API server said against it; empty if it accepted."""
        manifests = manifest if isinstance(manifest, list) else [manifest]
        who = ["--as", user] if user else []
        done = self.kubectl(verb, *who, "--filename", "-", stdin=yaml.safe_dump_all(manifests), check=False)
        return done.stderr if done.returncode else ""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of our own, without any component of Leasehold running in it; gone with the tests."""
    scripts = ROOT / "tests" / "cluster"
    environment = dict(os.environ)
    if os.geteuid() != 0:
        pytest.skip("a cluster of our own needs root")
    environment["LEASEHOLD_CLUSTER_DIR"] = str(tmp_path_factory.mktemp("cluster"))
    environment["LEASEHOLD_CLUSTER_OWNER"] = str(os.getpid())
    environment.pop("LEASEHOLD_TEST_KUBECONFIG", None)
    started = subprocess.run([scripts / "up"], capture_output=True, text=True, check=False, env=environment)
    if started.returncode:
        pytest.fail(f"the cluster did not start: {started.stdout[-2000:]}{started.stderr[-2000:]}")
    try:
        yield Cluster([str(scripts / "enter")], environment)
    finally:
        subprocess.run([scripts / "down"], check=True, capture_output=True, env=environment)
