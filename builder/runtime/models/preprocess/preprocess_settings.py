"""Settings of the stage `preprocess`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PreprocessSettings:
    """Bounds of pictures and questions, and the chat format around them.

    Attributes:
        cell_size: Pixels of a token cell's side.
        grids: Grids of token cells that pictures are resized to (`grids.parse_grids`).
        max_image_pixels: Larger pictures are refused before they are decoded.
        max_pictures: Most pictures of a request.
        max_query_tokens: Longest question.
        prompt_prefixes: The chat format up to the question: of one picture, of two, ...
        prompt_suffix: The chat format behind the question.
    """

    cell_size: int
    grids: str
    max_image_pixels: int
    max_pictures: int
    max_query_tokens: int
    prompt_prefixes: tuple[str, ...]
    prompt_suffix: str
