"""Which tasks there are, and which of them a checkpoint is for."""

from pathlib import Path
from typing import Final

from builder.checkpoint.files import CheckpointFiles, open_checkpoint
from builder.errors import CheckpointError
from builder.spec.task import Task, TaskSpec
from builder.tasks.feature_extraction import FeatureExtraction
from builder.tasks.fill_mask import FillMask
from builder.tasks.image_classification import ImageClassification
from builder.tasks.kind import Kind, KindFactory
from builder.tasks.question_answering import QuestionAnswering
from builder.tasks.sentence_similarity import SentenceSimilarity
from builder.tasks.speech import SpeechRecognition
from builder.tasks.text2text import Text2Text
from builder.tasks.text_classification import TextClassification
from builder.tasks.text_generation import TextGeneration
from builder.tasks.token_classification import TokenClassification
from builder.tasks.zero_shot_image import ZeroShotImage

KINDS: Final[dict[Task, KindFactory]] = {
    "automatic-speech-recognition": SpeechRecognition,
    "feature-extraction": FeatureExtraction,
    "fill-mask": FillMask,
    "image-classification": ImageClassification,
    "question-answering": QuestionAnswering,
    "sentence-similarity": SentenceSimilarity,
    "text-classification": TextClassification,
    "text-generation": TextGeneration,
    "text2text-generation": Text2Text,
    "token-classification": TokenClassification,
    "zero-shot-image-classification": ZeroShotImage,
}

_ARCHITECTURES: Final[dict[str, Task]] = {
    "CLIPModel": "zero-shot-image-classification",
    "ForImageClassification": "image-classification",
    "ForMaskedLM": "fill-mask",
    "BertForPreTraining": "fill-mask",
    "ForQuestionAnswering": "question-answering",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "WhisperForConditionalGeneration": "automatic-speech-recognition",
    "ForConditionalGeneration": "text2text-generation",
    "MarianMTModel": "text2text-generation",
    "Model": "feature-extraction",
}
"""End of an architecture's class name -> task; the first that fits counts."""

# Vectors can be had of every checkpoint: of a classifier's base model too.
_ANY_HEAD: Final[frozenset[Task]] = frozenset({"feature-extraction"})


def guess_task(files: CheckpointFiles) -> Task:
    """The task that a checkpoint's own files name.

    Raises:
        CheckpointError: none that can be built.
    """
    if files.json("modules.json"):
        return "sentence-similarity"
    for name in files.architectures:
        for ending, task in _ARCHITECTURES.items():
            if name.endswith(ending):
                return task
    raise CheckpointError(
        f"{files.source} ({', '.join(files.architectures) or 'no architecture named'}) is of no "
        f"task that can be built; known are {', '.join(sorted(KINDS))}"
    )


def kind_of(spec: TaskSpec, base: Path) -> Kind:
    """The task of a spec over its checkpoint; no weights are read.

    Args:
        spec: The spec.
        base: Folder that local paths are relative to.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or of another task.
        SpecError: the spec asks for more than the checkpoint takes.
    """
    files = open_checkpoint(spec.checkpoint, base)
    if spec.task not in _ANY_HEAD:
        guessed = guess_task(files)
        if guessed != spec.task:
            raise CheckpointError(
                f"{files.source} is a checkpoint for {guessed}, not for {spec.task}; set task: "
                f"{guessed} in the spec"
            )
    return KINDS[spec.task](spec, files)
