"""Task models: any checkpoint of a known task becomes a verified repository.

One module per task, each a `Kind` (`task.py`); `registry.py` names them, `build.py` runs them.
"""
