"""A user's own Python models: read, never run, and served as they are.

`source` finds their files and checks the class, `environment` packs what they import, `describe`
writes a spec for them. See docs/python_models.md.
"""
