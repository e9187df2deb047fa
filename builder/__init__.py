"""One spec file in, one verified Triton Inference Server model repository out."""
