"""The named colours that digits are drawn in."""

# name -> red, green, blue; far apart, all brighter than the dimmed photographs
PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (228, 40, 40),
    "orange": (250, 140, 25),
    "yellow": (250, 232, 60),
    "green": (55, 195, 70),
    "blue": (60, 110, 250),
    "purple": (165, 70, 220),
    "pink": (252, 150, 205),
    "white": (250, 250, 250),
}
COLOURS = tuple(PALETTE)
