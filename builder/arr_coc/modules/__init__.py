"""What is exported of arr-coc, in torch."""
