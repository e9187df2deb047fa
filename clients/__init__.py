"""gRPC clients of the `arr_coc` pipeline; need tritonclient and numpy, nothing of `builder`.

    from clients import GenerationOptions, Question, answer, stream

    question = Question.from_file("cat.jpg", "What is it?", GenerationOptions(max_tokens=32))
    print(answer("localhost:8001", question).text)
    for chunk in stream("localhost:8001", question):
        print(chunk.text, end="", flush=True)

Leaving a stream early, or a timeout, ends the answer on the server too; `cancel` ends one that
another thread or process reads.

`clients.aio` is the same for asyncio, `clients.statistics` reads the time spent in each stage,
`clients.heatmap` (needs Pillow) draws what the pipeline looked at.
"""

from clients.aio import AsyncClient
from clients.cancel import cancel
from clients.errors import AnswerError, DeadlineExceededError, ServerUnavailableError
from clients.request import GenerationOptions, Question
from clients.response import Answer, Chunk, Usage
from clients.streaming import stream
from clients.sync import answer

__all__ = [
    "Answer",
    "AnswerError",
    "AsyncClient",
    "Chunk",
    "DeadlineExceededError",
    "GenerationOptions",
    "Question",
    "ServerUnavailableError",
    "Usage",
    "answer",
    "cancel",
    "stream",
]
