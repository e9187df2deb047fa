"""The first stage of a vision model: encoded pictures to pixels of the size that it takes."""
