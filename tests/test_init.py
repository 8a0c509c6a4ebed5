"""``import ocrsdk``."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ocrsdk
from tests.commands import HEAVY


def test_importing_the_package_costs_nothing():
    code = f"import sys, ocrsdk; loaded = [m for m in {HEAVY!r} if m in sys.modules]; assert not loaded, loaded"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there_and_no_plug_in_module_loads_lightning():
    """The names are lazy; a scaffolded plug-in may derive from the bases without what a training needs."""
    code = (
        "import sys, ocrsdk\n"
        "for name in ('RowLogger', 'LoggerFactory', 'PrecisionStrategy', 'CacheBackend', 'FolderBackend', 'Options', 'hookimpl'):\n"
        "    getattr(ocrsdk, name)\n"
        "assert not {'torch', 'pytorch_lightning', 'cv2', 'wandb', 'diskcache'} & sys.modules.keys()\n"
        "from ocrsdk import Detector\n"
        "assert 'torch' in sys.modules and 'pytorch_lightning' not in sys.modules\n"
        "for name in ocrsdk.__all__:\n"
        "    getattr(ocrsdk, name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(set(ocrsdk.__all__)) == len(ocrsdk.__all__) == len(dir(ocrsdk))
    with pytest.raises(AttributeError, match="has no attribute 'Pipelin'"):
        _ = ocrsdk.Pipelin
