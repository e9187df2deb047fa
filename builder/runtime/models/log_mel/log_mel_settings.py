"""Settings of the stage `log_mel`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LogMelSettings:
    """Numbers of a checkpoint's feature extractor.

    Attributes:
        n_fft: Samples of a frame.
        hop_length: Samples between frames.
        sampling_rate: Samples a second.
        samples: Samples that a spectrogram covers; shorter audio is padded with silence.
    """

    n_fft: int
    hop_length: int
    sampling_rate: int
    samples: int
