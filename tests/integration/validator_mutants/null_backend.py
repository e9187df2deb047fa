"""A Triton backend that does nothing, for loads that cost a millisecond.

All checks of Triton's core run for its models as for any other; only the model itself is
missing. Starting a Python stub for each of thousands of models would take hours.
"""

import subprocess
from pathlib import Path

_SOURCE = """
#include <stdint.h>
void* TRITONBACKEND_ResponseNew(void** response, void* request);
void* TRITONBACKEND_ResponseSend(void* response, uint32_t flags, void* error);
void* TRITONBACKEND_RequestRelease(void* request, uint32_t flags);

void* TRITONBACKEND_ModelInstanceExecute(void* instance, void** requests, uint32_t count)
{
  for (uint32_t i = 0; i < count; ++i) {
    void* response = 0;
    TRITONBACKEND_ResponseNew(&response, requests[i]);
    TRITONBACKEND_ResponseSend(response, 1 /* final */, 0);
    TRITONBACKEND_RequestRelease(requests[i], 1 /* all */);
  }
  return 0;
}
"""


def build(backends: Path) -> None:
    """Compile the backend into `backends/null/`, with the system's C compiler."""
    folder = backends / "null"
    folder.mkdir()
    source = folder / "null.c"
    source.write_text(_SOURCE)
    library = folder / "libtriton_null.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
