"""The tasks that there are, a row each: whoever adds one adds a module and a row.

What a task says of itself beyond this (inputs, outputs, stages, graphs, parity) is in its class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class TaskRow:
    """What must be known of a task before its module is imported.

    Attributes:
        made_by: Module below `builder.tasks`, and the class in it.
        architectures: Ends of the class names in a checkpoint's `architectures`; of all tasks the
            longest that fits counts. None: any checkpoint, or one that its other files tell.
        keys: Keys of a spec that only tasks which name them have.
        any_head: Whether a checkpoint of another task will do, for its base model.
    """

    made_by: str
    architectures: tuple[str, ...] = ()
    keys: frozenset[str] = frozenset()
    any_head: bool = False


def _row(made_by: str, *architectures: str, keys: str = "", any_head: bool = False) -> TaskRow:
    return TaskRow(made_by, architectures, frozenset(keys.split()), any_head)


TASKS: Final[Mapping[str, TaskRow]] = {
    "automatic-speech-recognition": _row(
        "speech:SpeechRecognition", "WhisperForConditionalGeneration", keys="generation"
    ),
    "feature-extraction": _row("feature_extraction:FeatureExtraction", "Model", any_head=True),
    "fill-mask": _row("fill_mask:FillMask", "ForMaskedLM", "BertForPreTraining", keys="top_k"),
    "image-classification": _row(
        "image_classification:ImageClassification",
        "ForImageClassification",
        keys="top_k max_image_pixels",
    ),
    "question-answering": _row(
        "question_answering:QuestionAnswering", "ForQuestionAnswering", keys="top_k answers"
    ),
    "sentence-similarity": _row("sentence_similarity:SentenceSimilarity", keys="join_lengths"),
    "text-classification": _row(
        "text_classification:TextClassification",
        "ForSequenceClassification",
        keys="top_k join_lengths",
    ),
    "text-generation": _row(
        "text_generation:TextGeneration", "ForCausalLM", "LMHeadModel", keys="generation"
    ),
    "text2text-generation": _row(
        "text2text:Text2Text", "ForConditionalGeneration", "MarianMTModel", keys="generation"
    ),
    "token-classification": _row(
        "token_classification:TokenClassification", "ForTokenClassification", keys="entities"
    ),
    "zero-shot-image-classification": _row(
        "zero_shot_image:ZeroShotImage", "CLIPModel", keys="zero_shot max_image_pixels"
    ),
}


def task_of_architecture(name: str) -> str | None:
    """The task that a class of transformers is for; None: of none that there is."""
    fitting = [
        (len(end), task)
        for task, row in TASKS.items()
        for end in row.architectures
        if name.endswith(end)
    ]
    return max(fitting)[1] if fitting else None


def tasks_with(key: str) -> list[str]:
    """The tasks whose specs may have a key; empty: all of them."""
    return [task for task, row in TASKS.items() if key in row.keys]
