#!/usr/bin/env bash
# An environment for `exporter: optimum`: optimum-onnx pins a transformers that is older than ours.
# torch, numpy, onnx and ONNX Runtime are those of the main environment, read through a .pth file.
# Usage: install_optimum.sh MAIN_VENV OPTIMUM_VENV
set -euo pipefail
main=$1
target=$2
test -x "$target/bin/python" || "$main/bin/python" -m venv "$target"
site=$("$target/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$main/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/main_environment.pth"
"$target/bin/python" -m pip install --quiet --no-deps --ignore-installed \
    transformers==4.57.6 optimum==2.1.0 optimum-onnx==0.1.0 tokenizers==0.22.2 huggingface_hub==0.36.2 \
    requests==2.32.5 urllib3==2.5.0 charset-normalizer==3.4.4 idna==3.11 certifi==2025.11.12
"$target/bin/python" -c 'import optimum.exporters.onnx, transformers; assert transformers.__version__ == "4.57.6"'
