"""Words in, their plurals out: with a package that the server does not have."""

import inflection
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """The smallest model that needs an environment of its own."""

    def execute(self, requests):
        """One answer a request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        words = pb_utils.get_input_tensor_by_name(request, "WORDS").as_numpy()
        plurals = [inflection.pluralize(word.decode()).encode() for word in words]
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("PLURALS", np.array(plurals, np.object_))]
        )
