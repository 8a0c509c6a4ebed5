"""Fingerprints, and how two documents differ."""

from __future__ import annotations

from ocrsdk.fingerprint import differences, fingerprint


def test_fingerprints_differ_with_any_value_and_not_with_order():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert len({fingerprint(d) for d in ({"a": 1}, {"a": 2}, {"a": "1"}, {"b": 1}, {"a": [1]}, {})}) == 6


def test_differences_name_each_leaf():
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}, "e": None}
    assert differences(old, new) == ["a.c: 2 -> 5", "d: 3 -> absent", "e: absent -> null"]
    assert differences(old, old) == []
