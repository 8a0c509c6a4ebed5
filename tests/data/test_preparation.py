"""A version covers everything that changes the bytes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ocrsdk import Settings
from ocrsdk.fingerprint import fingerprint


def test_a_version_covers_opencv_and_the_code(monkeypatch: pytest.MonkeyPatch):
    import ocrsdk.data.preparation as module

    def version() -> str:
        given = Settings()
        return fingerprint(module.sample_manifest(given.cache, given.data, given.augment, given.targets))

    before = version()
    for name, other in (
        ("__version__", "99"),
        ("package_of", lambda backend: {backend: "x 1"}),
        ("opencv_version", lambda: "99"),
        ("metadata", SimpleNamespace(version=lambda name: f"99 {name}")),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, other)
            assert version() != before


def test_a_version_is_superseded_by_code_and_libraries_and_by_no_setting():
    from ocrsdk.data.preparation import sample_manifest, superseded

    for policy in ("image", "sample", "maps"):
        given = Settings(cache={"policy": policy, "compress": "zstd"}, data={"short_side": 96})
        manifest = sample_manifest(given.cache, given.data, given.augment, given.targets)
        assert superseded(manifest, "diskcache") == []
        for part, name in (("code", "ocrsdk"), ("code", "opencv"), ("pixels", "resize"), ("encoding", "format")):
            (change,) = superseded(manifest | {part: manifest[part] | {name: "another"}}, "diskcache")
            assert change.startswith(f'{part}.{name}: "another" -> ')
        assert superseded({}, "diskcache")
