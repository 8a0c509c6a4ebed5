"""The versions that are public."""

from __future__ import annotations

from tests.conftest import CLI


def test_version(cli: CLI):
    from ocrsdk import __version__

    assert cli("--version").stdout.strip() == f"ocrsdk {__version__}"


def test_api_version_is_public():
    import ocrsdk

    assert ocrsdk.api_version == 1
