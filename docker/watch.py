"""Entry point of the GPU image: the image's own `tritonserver`, watched.

    python3 watch.py tritonserver --model-repository=/models [...]

`builder/watch` lies beside this file in the image; what it does is said there.
"""

import os
import sys

from builder.watch.container import serve

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: watch.py tritonserver --model-repository=DIR [...]")
    sys.exit(serve(sys.argv[1:], os.environ))
