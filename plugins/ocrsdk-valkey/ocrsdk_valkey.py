"""The cache backend ``valkey``: one cache on a Valkey or Redis server, for several machines."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from typing import TYPE_CHECKING, Any

import valkey
from pydantic import Field, SecretStr

import ocrsdk
from ocrsdk import hookimpl
from ocrsdk.cache.base import KEY, CacheBackend, CacheLocation, Finding, Severity, Usage, VersionInfo
from ocrsdk.errors import CacheEnvironmentError, CacheError, CacheForeignError, CacheStoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

_LEASE_SECONDS = 90
"""A version counts as in use for so long after a process last touched it."""

_SET = """
local before = redis.call('STRLEN', KEYS[1])
local exists = redis.call('EXISTS', KEYS[1])
local used = tonumber(redis.call('HGET', KEYS[2], 'bytes') or '0')
if used - before + #ARGV[1] > tonumber(ARGV[2]) then return 0 end
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('HSET', KEYS[2], 'manifest', ARGV[3], 'budget', ARGV[2], 'created', ARGV[4], 'used', ARGV[4])
end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('HINCRBY', KEYS[2], 'bytes', #ARGV[1] - before)
redis.call('HINCRBY', KEYS[2], 'entries', 1 - exists)
return 1
"""
_DELETE = """
local before = redis.call('STRLEN', KEYS[1])
if redis.call('DEL', KEYS[1]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[2], 'bytes', -before)
redis.call('HINCRBY', KEYS[2], 'entries', -1)
return 1
"""


class ValkeyCache(CacheBackend):
    """Values on a server; any number of machines. Looking at versions, and removing them, walks over the server's keys."""

    name = "valkey"
    summary = "on a Valkey or Redis server, shared by several machines"

    class Options(ocrsdk.Options):
        """Options of ``valkey``."""

        url: str = "valkey://localhost:6379/0"
        """``valkey://HOST:PORT/DB``, ``valkeys://`` with TLS, ``unix://PATH``."""
        username: str | None = None
        """User, if the server asks for one."""
        password: SecretStr | None = None
        """Password; the variable ``VALKEY_PASSWORD`` keeps it out of files, for a process and its loader workers."""
        prefix: str = Field("ocrsdk", pattern=r"^[\w.-]+$")
        """Begins every key, so that the server can serve other things as well."""
        timeout: float = Field(5.0, gt=0, le=600)
        """Seconds to wait for the server."""

    def __init__(self, location: CacheLocation, options: BaseModel | None = None) -> None:
        super().__init__(location, options)
        self._client: valkey.Valkey | None = None
        self._pid = -1
        self._leased = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_client": None, "_pid": -1, "_leased": 0.0}

    # ------------------------------------------------------------------ the server

    @property
    def _place(self) -> str:
        """The address, without a password."""
        return re.sub(r"//[^/@]*@", "//***@", str(self.options.url))

    def _root(self, version: str) -> str:
        return f"{self.options.prefix}:1:{version}"

    def _meta(self, version: str | None = None) -> str:
        return self._root(version or self.location.version) + ":meta"

    def _value(self, key: str) -> str:
        if not KEY.fullmatch(key):
            raise TypeError(f"not a key: {key!r}")
        return f"{self._root(self.location.version)}:v:{key}"

    @contextlib.contextmanager
    def _server(self) -> Iterator[valkey.Valkey]:
        options = self.options
        try:
            if self._client is None or self._pid != os.getpid():
                password = options.password.get_secret_value() if options.password else os.environ.get("VALKEY_PASSWORD")
                self._client = valkey.Valkey.from_url(
                    options.url, username=options.username, password=password, socket_timeout=options.timeout,
                    socket_connect_timeout=options.timeout,
                )  # fmt: skip
                self._pid = os.getpid()
            yield self._client
        except valkey.exceptions.AuthenticationError as error:
            raise CacheEnvironmentError(f"{self._place}: {error}; set cache.options.username and VALKEY_PASSWORD") from error
        except (valkey.exceptions.ConnectionError, valkey.exceptions.TimeoutError, OSError) as error:
            raise CacheEnvironmentError(f"{self._place}: the server does not answer ({error}); is it running?") from error
        except ValueError as error:
            raise CacheError(f"cache.options.url = {self._place!r}: {error}") from error
        except valkey.exceptions.ResponseError as error:
            if "WRONGTYPE" in str(error):
                raise CacheForeignError(f"{self._place}: other data under the prefix {options.prefix!r}; choose another") from error
            raise CacheEnvironmentError(f"{self._place}: {error}") from error

    def _lease(self, client: valkey.Valkey) -> None:
        now = time.monotonic()
        if now - self._leased > _LEASE_SECONDS / 3:
            self._leased = now
            client.set(f"{self._root(self.location.version)}:use:{os.uname().nodename}:{os.getpid()}", b"1", ex=_LEASE_SECONDS)

    # -------------------------------------------------------------------- contract

    def prepare(self) -> None:
        """Reach the server, and note the version there."""
        with self._server() as client:
            known = client.hget(self._meta(), "budget")
            if known is not None and int(known) != self.location.budget and self._in_use(client, self.location.version):
                raise CacheError(
                    f"{self._place}: another run uses this version with cache.budget={int(known)}, this one asks for "
                    f"{self.location.budget}; give both the same, or wait for the other to end"
                )
            now = time.time()
            manifest = json.dumps(dict(self.location.manifest), sort_keys=True)
            client.hset(self._meta(), mapping={"manifest": manifest, "budget": self.location.budget, "used": now})
            client.hsetnx(self._meta(), "created", now)
            self._lease(client)

    def get(self, key: str) -> bytes | None:
        """See the contract."""
        with self._server() as client:
            self._lease(client)
            value: bytes | None = client.get(self._value(key))
            return value

    def set(self, key: str, value: bytes) -> bool:
        """See the contract. As durable as the server is set up to be."""
        if not isinstance(value, bytes):
            raise TypeError(f"a cache stores bytes, not {type(value).__name__}")
        with self._server() as client:
            self._lease(client)
            manifest = json.dumps(dict(self.location.manifest), sort_keys=True)
            arguments = (value, self.location.budget, manifest, time.time())
            return bool(client.eval(_SET, 2, self._value(key), self._meta(), *arguments))

    def delete(self, key: str) -> bool:
        """See the contract."""
        with self._server() as client:
            return bool(client.eval(_DELETE, 2, self._value(key), self._meta()))

    def __iter__(self) -> Iterator[str]:
        seen = set()
        root = f"{self._root(self.location.version)}:v:"
        with self._server() as client:
            for name in client.scan_iter(match=f"{root}*", count=1000):
                key = name.decode()[len(root) :]
                if key not in seen:
                    seen.add(key)
                    yield key

    def usage(self) -> Usage:
        """See the contract."""
        with self._server() as client:
            return self._usage(client, self.location.version)

    def _usage(self, client: valkey.Valkey, version: str) -> Usage:
        entries, size = client.hmget(self._meta(version), "entries", "bytes")
        return Usage(int(entries or 0), int(size or 0))

    def _in_use(self, client: valkey.Valkey, version: str) -> bool:
        own = f"{self._root(version)}:use:{os.uname().nodename}:{os.getpid()}".encode()
        return any(name != own for name in client.scan_iter(match=f"{self._root(version)}:use:*", count=1000))

    def versions(self) -> list[VersionInfo]:
        """See the contract."""
        found = []
        with self._server() as client:
            for name in set(client.scan_iter(match=f"{self.options.prefix}:1:*:meta", count=1000)):
                version = name.decode().split(":")[-2]
                known = {k.decode(): v for k, v in client.hgetall(name).items()}
                if not known:
                    continue
                try:
                    manifest = json.loads(known.get("manifest", b"{}"))
                    numbers = (int(known.get("budget", 0)), float(known.get("created", 0)), float(known.get("used", 0)))
                except ValueError as error:
                    found.append(VersionInfo(version, {}, Usage(0, 0), 0, 0.0, 0.0, False, f"damaged: {error}", True))
                    continue
                in_use = self._in_use(client, version)
                found.append(VersionInfo(version, manifest, self._usage(client, version), *numbers, in_use))
        return sorted(found, key=lambda info: -info.used)

    def remove_version(self, version: str) -> None:
        """See the contract."""
        with self._server() as client:
            if not client.exists(self._meta(version)):
                raise CacheError(f"no cache version {version!r}; see: ocrsdk cache status")
            names = list(client.scan_iter(match=f"{self._root(version)}:v:*", count=1000))
            for start in range(0, len(names), 500):
                client.unlink(*names[start : start + 500])
            client.unlink(self._meta(version))
            self._leased = 0.0

    def health(self, fix: bool = False) -> list[Finding]:
        """Counters against what is there, and whether the server may evict."""
        found = []
        try:
            with self._server() as client:
                if not client.exists(self._meta()):
                    return [Finding(Severity.ERROR, f"{self._place}: NO CACHE of version {self.location.version} there")]
                policy = client.info("memory").get("maxmemory_policy", "noeviction")
                if policy != "noeviction":
                    found.append(
                        Finding(
                            Severity.WARNING, f"the server may evict values ({policy})", "CONFIG SET maxmemory-policy noeviction"
                        )
                    )
                keys = list(self)
                size = sum(self._sizes(client, keys))
                noted = self._usage(client, self.location.version)
                if (noted.entries, noted.bytes) != (len(keys), size):
                    if fix:
                        client.hset(self._meta(), mapping={"entries": len(keys), "bytes": size})
                    what = f"counted {noted.entries} entries with {noted.bytes} bytes, found {len(keys)} with {size}"
                    found.append(Finding(Severity.WARNING, what, "" if fix else "ocrsdk cache health --fix", fixed=fix))
        except (CacheEnvironmentError, CacheStoreError, CacheError) as error:
            return [Finding(Severity.ERROR, str(error))]
        return found

    def _sizes(self, client: valkey.Valkey, keys: list[str]) -> Iterator[int]:
        for start in range(0, len(keys), 1000):
            pipeline = client.pipeline(transaction=False)
            for key in keys[start : start + 1000]:
                pipeline.strlen(self._value(key))
            yield from pipeline.execute()

    def close(self) -> None:
        """See the contract."""
        if self._client is not None and self._pid == os.getpid():
            with contextlib.suppress(valkey.exceptions.ValkeyError, OSError):
                self._client.delete(f"{self._root(self.location.version)}:use:{os.uname().nodename}:{os.getpid()}")
                self._client.close()
        self._client, self._pid, self._leased = None, -1, 0.0


@hookimpl
def ocrsdk_register_cache_backends() -> list[type[CacheBackend]]:
    """Valkey."""
    return [ValkeyCache]
