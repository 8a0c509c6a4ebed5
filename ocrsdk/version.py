"""The version of this package, and that of what plug-ins build on."""

__version__ = "0.1.0"

api_version = 1
"""Version of the hooks and base classes. It rises when a plug-in that was right before may not be right any more; new hooks, new
arguments of hooks, and new optional methods do not raise it. A plug-in module may say what it needs: ``ocrsdk_api_version = 1``."""
