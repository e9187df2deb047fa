"""The libraries' own notes and progress bars would tear ours."""

import logging
import os
import warnings


def quiet() -> None:
    """Silence transformers, torch.export and warnings, for this process."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("torch.export").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
