"""Reasons are counted, exactly, over processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocrsdk.cache.keys import EntryKey
from ocrsdk.cache.stats import read_sessions
from ocrsdk.cache.store import Outcome, SampleCache


def test_reasons_are_counted_and_survive_the_process(tmp_path: Path, cache: SampleCache):
    first = EntryKey("image:a", {"kind": "image", "source": {"path": "a", "size": 1}, "annotation": "x"})
    relabelled = EntryKey("image:a", {**first.parts, "annotation": "y"})
    resized = EntryKey("image:a", {**first.parts, "source": {"path": "a", "size": 2}})
    assert cache.get(first).reason == "not seen before"
    cache.set(first, b"1")
    assert bytes(cache.get(first).value) == b"1"
    assert cache.get(relabelled).reason == 'annotation: "x" -> "y"'
    assert cache.get(resized).reason == "source.size: 1 -> 2"
    cache.set(resized, b"2")
    assert cache.get(first).outcome is Outcome.MISS  # superseded
    pid = os.fork()
    if pid == 0:
        cache.get(resized)
        os._exit(0)
    os.waitpid(pid, 0)
    ((name, (counts, _)),) = read_sessions(tmp_path / "stats").items()
    assert name == "test"
    assert (counts.hits, counts.new, counts.stale_annotation, counts.stale_source, counts.writes) == (2, 1, 1, 2, 2)
    assert counts == cache.counts()
    assert counts.reasons()[0] == "2 stale source"


@pytest.mark.parametrize("text", ["", "x", "x" * 500])
def test_files_that_are_no_counters_are_left_out(tmp_path: Path, text: str):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "1.count").write_text(text)
    assert read_sessions(tmp_path)["s"][0].accesses == 0
