"""Accuracy of a pipeline on questions with known answers: `dataset` asks, `sides` answer,
`accuracy` counts."""
