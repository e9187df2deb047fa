"""Every subset of the inputs of the pipeline is answered (of the tasks: their own test files)."""

import pytest

from tests.integration.conftest import ArrCocServer
from tests.integration.subsets import count_answers

REQUIRED = {"IMAGE", "PROMPT"}


def test_requests_without_a_required_input_are_refused(arr_coc_server: ArrCocServer) -> None:
    answered, refused = count_answers(arr_coc_server.server, "arr_coc", REQUIRED, every=False)
    assert (answered, refused) == (12, 36)


@pytest.mark.slow
def test_every_subset_is_answered(arr_coc_server: ArrCocServer) -> None:
    answered, refused = count_answers(arr_coc_server.server, "arr_coc", REQUIRED)
    assert (answered, refused) == (1024, 3 * 1024)
