"""The first stage of speech recognition: samples to a log-mel spectrogram."""
