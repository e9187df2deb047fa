"""The arr-coc modules in torch: what is exported, and the reference everything is checked against."""
