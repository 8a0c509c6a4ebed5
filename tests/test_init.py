"""``import ocrsdk``."""

from __future__ import annotations

import subprocess
import sys

from tests.commands import HEAVY


def test_importing_the_package_costs_nothing():
    code = f"import sys, ocrsdk; loaded = [m for m in {HEAVY!r} if m in sys.modules]; assert not loaded, loaded"
    subprocess.run([sys.executable, "-c", code], check=True)
