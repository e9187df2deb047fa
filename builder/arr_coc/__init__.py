"""The arr-coc modules in torch: what is exported, and the reference to check it against."""
