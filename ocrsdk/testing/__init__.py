"""Conformance suites for plug-in authors: subclass one, run pytest. Needs pytest; nothing else in ocrsdk imports it."""
