"""``LogState``: how far the loggers of a run are, as part of every checkpoint of any trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytorch_lightning import Callback

from ocrsdk.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from ocrsdk.loggers.run_logger import RunLogger

_KEY = "ocrsdk_loggers"


class LogState(Callback):
    """Keeps the state of a ``RunLogger`` in checkpoints, so that a resumed run loses no row and repeats none.

    Args:
        logger: That of the trainer.
    """

    def __init__(self, logger: RunLogger) -> None:
        self.logger = logger

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, object]) -> None:
        """Called by the trainer."""
        skipped = sum(getattr(callback, "skipped_steps", 0) for callback in trainer.callbacks)
        checkpoint[_KEY] = {"loggers": self.logger.state(), "run_id": self.logger.run_id, "step": trainer.global_step + skipped}


def read_state(path: Path) -> dict[str, object]:
    """What ``LogState`` kept in a checkpoint.

    Raises:
        CheckpointError: The file cannot be read without running code from it, or was written without ``LogState``.
    """
    import torch

    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        cause = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{path}: cannot be loaded as plain data and tensors ({cause}); keep hyperparameters JSON-ready"
        ) from error
    state = content.get(_KEY) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: was written without the callback LogState, so nothing is known of its rows")
    return state
