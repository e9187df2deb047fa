"""The spec file: its types, how it is read, its JSON Schema."""
