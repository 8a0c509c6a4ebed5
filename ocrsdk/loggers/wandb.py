"""The logger ``wandb``: Weights & Biases, with a step that never goes back.

W&B drops a row whose step is lower than the one before, and lets a row of equal step overwrite the values of the one before,
both without an error. So its step is never the trainer's: it counts rows, and the charts' axes are ordinary metrics.
"""

from __future__ import annotations

import netrc
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ocrsdk.errors import LoggerError
from ocrsdk.loggers.base import AXES, RowLogger, RunInfo
from ocrsdk.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ocrsdk.loggers.factories import WandbLoggerFactory

_CONNECT_TIMEOUT = 0.8
"""Seconds that the server gets to answer before the run goes on offline."""


_FLUSH_SECONDS = 5.0
"""The service may still be writing when ``finish`` has returned."""


_IMAGES = "._type"
"""What the client appends to the key of pictures, among others, when it writes them."""


@dataclass
class _Present:
    step: int = -1
    """The client's own, of the last row."""
    rows: set[int] = field(default_factory=set)
    images: set[tuple[str, int | None]] = field(default_factory=set)
    """Key and trainer's step."""


class WandbLogger(RowLogger):
    """Writes each row under a step of its own; at the end, counts the rows on disk.

    Args:
        run: What ``wandb.init`` returned.
        present: What earlier processes of this run left on disk.
        folder: Where the run's ``.wandb`` file lies; None if nothing is written.
    """

    def __init__(self, run: Any, present: _Present | None = None, folder: Path | None = None) -> None:
        super().__init__(str(run.name), str(run.id))
        self.run, self.folder = run, folder
        self._present = present or _Present()
        self._step = max(int(getattr(run, "step", 0) or 0) - 1, self._present.step)
        self._logged = 0
        for axis in AXES:
            run.define_metric(axis)
        run.define_metric("*", step_metric="trainer/step", step_sync=True)

    @property
    def experiment(self) -> object:
        """The W&B run, for whatever this class does not do. Rows logged past it spoil the step."""
        return self.run

    def has_row(self, row: int) -> bool:
        """Whether an earlier process of this run left the row on disk."""
        return row in self._present.rows

    def has_images(self, key: str, step: int) -> bool:
        """Whether an earlier process of this run left the pictures on disk."""
        return (key, step) in self._present.images

    def log_metrics(self, metrics: dict[str, object], step: int | None = None) -> None:
        """One row, at its place on the axis ``trainer/step``, whatever has been logged before."""
        row = dict(metrics)
        if step is not None:
            row["trainer/step"] = step
        self._step += 1
        self._logged += 1
        self.run.log(row, step=self._step)

    def log_image(self, key: str, images: Sequence[NDArray[np.uint8]], step: int | None = None, **kwargs: Any) -> None:
        """Pictures, each with its caption."""
        import wandb

        captions = kwargs.get("caption") or [None] * len(images)
        pictures = [wandb.Image(image, caption=caption) for image, caption in zip(images, captions, strict=True)]
        self.log_metrics({key: pictures}, step)

    def state(self) -> dict[str, Any]:
        """The run's id, so that a resumed run goes on in it."""
        return {"id": self.run.id}

    def finalize(self, status: str) -> None:
        """Finish the run, then count the rows that are really there.

        Raises:
            LoggerError: Some are not.
        """
        self.run.finish(exit_code=0 if status == "success" else 1)
        if self.folder is None:
            return
        from ocrsdk.loggers.wandb_file import read_history

        deadline = time.monotonic() + _FLUSH_SECONDS
        while (written := sum(len(read_history(path)) for path in self.folder.glob("*.wandb"))) < self._logged:
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        if written < self._logged:
            raise LoggerError(f"W&B accepted {self._logged} rows and wrote {written} of them into {self.folder}")


def start(options: WandbLoggerFactory.Options, run: RunInfo) -> WandbLogger:
    """Make or resume the W&B run.

    Raises:
        LoggerError: It cannot be reached or written as asked.
    """
    import wandb

    mode: Any = _mode(options.mode)
    folder = run.folder / "wandb"
    if mode != "disabled":
        _check_writable(folder)  # else the client writes into the temporary folder
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, init_timeout=20)
    try:
        made = wandb.init(
            dir=run.folder, project=options.project, entity=options.entity, name=options.name or run.folder.name,
            id=run.state.get("id") or options.id or run.run_id, resume="allow" if mode == "online" else None, mode=mode,
            tags=list(options.tags) or None, settings=settings,
            config={"settings": run.settings, "environment": run.environment},
        )  # fmt: skip
    except Exception as error:  # the client raises many kinds
        raise LoggerError(f"W&B cannot be started ({error}); try --set logging.options.wandb.mode=offline") from error
    if mode == "disabled":
        return WandbLogger(made)
    files = Path(made.settings.sync_dir)
    if folder.resolve() not in files.resolve().parents:
        made.finish(exit_code=1)
        raise LoggerError(f"W&B would write into {files} instead of {folder}; is the folder writable?")
    if mode == "offline":
        get_logger(__name__).info("W&B is offline", folder=str(files), to_send=f"wandb sync {files}")
    return WandbLogger(made, _present(folder, made.id, files), files)


def _present(folder: Path, run_id: str, own: Path) -> _Present:
    """What files of earlier processes of this run hold."""
    from ocrsdk.loggers.wandb_file import read_history

    present = _Present()
    for path in sorted(folder.glob(f"*/*{run_id}.wandb")):
        if path.parent.resolve() == own.resolve():
            continue
        try:
            rows = read_history(path)
        except Exception as error:  # noqa: BLE001 - whatever a damaged file raises: its rows are sent again
            get_logger(__name__).warning("an earlier W&B file cannot be read; its rows are sent again", reason=str(error))
            continue
        for row in rows:
            present.step = max(present.step, int(row["_step"]))
            if "row" in row:
                present.rows.add(int(row["row"]))
            else:
                keys = (key.removesuffix(_IMAGES) for key in row if key.endswith(_IMAGES))
                present.images.update((key, row.get("trainer/step")) for key in keys)
    return present


def _mode(asked: str) -> str:
    if asked == "auto":
        asked = os.environ.get("WANDB_MODE") or "auto"
    if asked not in ("auto", "online"):
        return asked
    url = _server()
    host = urlsplit(url).hostname or url
    reason = "there is no API key" if not _has_key(host) else ("" if _answers(url) else f"{host} does not answer")
    if not reason:
        return "online"
    if asked == "online":
        raise LoggerError(
            f"logging.options.wandb.mode is online, but {reason}; log in with: wandb login, "
            "or go on without: --set logging.options.wandb.mode=offline"
        )
    return "offline"


def _server() -> str:
    import wandb

    return str(wandb.setup().settings.base_url)


def _has_key(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        return netrc.netrc(str(path)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    try:
        with socket.create_connection(
            (parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)), _CONNECT_TIMEOUT
        ):
            return True
    except OSError:
        return False


def _check_writable(folder: Path) -> None:
    probe = folder / f".{os.getpid()}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"-" * 65536)
        probe.unlink()
    except OSError as error:
        raise LoggerError(f"{folder}: cannot be written ({error.strerror}); W&B needs it") from error
