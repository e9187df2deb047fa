"""A small trained arr-coc: handwritten digits on photographs, and questions about them."""
