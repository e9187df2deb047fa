"""Typed model configs to `config.pbtxt`, parsed back and compared."""
