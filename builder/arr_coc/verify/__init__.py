"""The artifacts of the arr-coc stages against the plain torch reference."""
