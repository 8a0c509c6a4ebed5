"""The backend keeps the contract on a real server, and survives its death."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocrsdk.cache.base import CacheBackend, CacheLocation, Severity
from ocrsdk.errors import CacheEnvironmentError, CacheError
from ocrsdk.fingerprint import fingerprint
from ocrsdk.testing.cache import CacheBackendSuite, key, value
from ocrsdk_valkey import ValkeyCache

SERVER = shutil.which("valkey-server") or shutil.which("redis-server")


def start(port: int, *options: str) -> subprocess.Popen[bytes]:
    assert SERVER is not None
    command = [SERVER, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return process
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server did not start")


@pytest.fixture(scope="session")
def port() -> Iterator[int]:
    """A server of our own."""
    if SERVER is None:
        pytest.skip("neither valkey-server nor redis-server is installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    process = start(number)
    yield number
    process.kill()
    process.wait()


def make(port: int, prefix: str, manifest: str = "a", budget: int = 10**9) -> ValkeyCache:
    document = {"manifest": manifest}
    options = ValkeyCache.Options(url=f"valkey://127.0.0.1:{port}/0", prefix=prefix, timeout=5)
    return ValkeyCache(CacheLocation(Path(), fingerprint(document), document, budget), options)


class TestValkey(CacheBackendSuite):
    backend = ValkeyCache

    @pytest.fixture(autouse=True)
    def _server(self, port: int, request: pytest.FixtureRequest) -> None:
        self.port, self.prefix = port, f"t{abs(hash(request.node.nodeid))}"

    def make(self, folder: Path, budget: int = 10**9, manifest: str = "a") -> CacheBackend:
        cache = make(self.port, self.prefix, manifest, budget)
        cache.prepare()
        return cache


def test_counts_are_checked_and_mended(port: int):
    cache = make(port, "health")
    assert [f.severity for f in cache.health()] == [Severity.ERROR]
    cache.prepare()
    for i in range(3):
        cache.set(key(i), value(i, 1000))
    with cache._server() as client:
        client.delete(cache._value(key(0)))  # as an eviction would
    (finding,) = cache.health()
    assert "counted 3 entries with 3000 bytes, found 2 with 2000" in finding.what
    assert cache.health(fix=True)[0].fixed
    assert cache.health() == []
    with cache._server() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    assert "may evict" in cache.health()[0].what
    with cache._server() as client:
        client.config_set("maxmemory-policy", "noeviction")


def test_two_live_runs_with_two_budgets(port: int):
    first = make(port, "budgets")
    first.prepare()
    with first._server() as client:
        client.set(f"{first._root(first.location.version)}:use:another-machine:1", b"1", ex=60)
    with pytest.raises(CacheError, match=r"another run uses this version with cache.budget=1000000000"):
        make(port, "budgets", budget=5).prepare()
    assert make(port, "budgets").versions()[0].in_use


def test_a_server_that_dies_is_the_environments_fault(port: int):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    with pytest.raises(CacheEnvironmentError, match="does not answer"):
        make(number, "x").prepare()
    process = start(number)
    cache = make(number, "x")
    cache.prepare()
    cache.set(key(1), b"one")
    process.kill()
    process.wait()
    with pytest.raises(CacheEnvironmentError, match="is it running"):
        cache.get(key(1))
    process = start(number, "--requirepass", "secret")
    with pytest.raises(CacheEnvironmentError, match="VALKEY_PASSWORD"):
        cache.get(key(1))
    process.kill()
    process.wait()
