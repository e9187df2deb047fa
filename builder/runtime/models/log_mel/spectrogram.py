"""Log-mel spectrograms as transformers' `WhisperFeatureExtractor` computes them, in numpy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .log_mel_settings import LogMelSettings


class AudioError(ValueError):
    """Samples can't be used; the message is for the client."""


@dataclass(frozen=True)
class LogMel:
    """A checkpoint's feature extractor.

    Attributes:
        filters: fp64 [1 + n_fft / 2, mels].
        settings: Its numbers.
    """

    filters: NDArray[np.float64]
    settings: LogMelSettings

    def check(self, audio: NDArray[np.float32]) -> None:
        """Refuse samples that would be cut or give no number.

        Raises:
            AudioError: none, too many, or not finite.
        """
        if audio.size == 0:
            raise AudioError("AUDIO has no samples")
        samples, rate = self.settings.samples, self.settings.sampling_rate
        if audio.size > samples:
            raise AudioError(
                f"AUDIO has {audio.size / rate:.1f} seconds at {rate} Hz; at most "
                f"{samples / rate:g} are allowed: send it in parts"
            )
        if not np.isfinite(audio).all():
            raise AudioError("AUDIO has samples that are no finite numbers")

    def __call__(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """The spectrogram.

        Args:
            audio: fp32 [N], N <= samples, -1 to 1.

        Returns:
            fp32 [mels, samples / hop_length].
        """
        n_fft, hop, samples = (
            self.settings.n_fft,
            self.settings.hop_length,
            self.settings.samples,
        )
        padded = np.zeros(samples, dtype=np.float64)
        padded[: audio.size] = audio
        centred = np.pad(padded, n_fft // 2, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(centred, n_fft)
        # The last frame is left out, as Whisper does.
        frames = frames[::hop][: samples // hop]
        window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)
        power = np.abs(np.fft.rfft(frames * window, axis=-1)) ** 2
        mel = np.log10(np.maximum(self.filters.T @ power.T, 1e-10))
        mel = np.maximum(mel, mel.max() - 8.0)
        features: NDArray[np.float32] = ((mel + 4.0) / 4.0).astype(np.float32)
        return features
