"""Inference alone."""

from __future__ import annotations

import subprocess
import sys


def test_inference_needs_no_lightning():
    code = "import sys, ocrsdk.inference; assert 'torch' in sys.modules; assert 'pytorch_lightning' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
