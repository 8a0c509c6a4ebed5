"""Settings that contradict each other are refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocrsdk import Pipeline
from ocrsdk.errors import SettingsError
from tests.training.runs import with_val_loss


def test_maps_are_kept_for_the_loss_only(tmp_path: Path, synth_pages: Path):
    given = with_val_loss(tmp_path, "x", "maps")
    off = given.model_copy(update={"trainer": given.trainer.model_copy(update={"val_loss": False})})
    with pytest.raises(SettingsError, match="trainer.val_loss=true"):
        Pipeline(off).fit(synth_pages)
    assert not (tmp_path / "x").exists()
