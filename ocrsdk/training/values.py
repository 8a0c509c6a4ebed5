"""What the parts of a training run note for its next row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class RunValues:
    """Metrics that are waiting for their row; the module and the callbacks of one run share it, ``callbacks.rows`` writes it."""

    step: dict[str, Any] = field(default_factory=dict)
    """Of the update under way."""
    epoch: dict[str, Any] = field(default_factory=dict)
    """Of the epoch under way."""
