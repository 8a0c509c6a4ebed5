"""JSON for people to read, whatever is in it."""

from __future__ import annotations

import json
from typing import Any


def json_text(document: Any, indent: int | None = None) -> str:
    """``document`` with letters of all scripts as they are; all ASCII if it holds a file name that is no text."""
    text = json.dumps(document, ensure_ascii=False, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(document, indent=indent)
    return text
