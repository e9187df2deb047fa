# syntax=docker/dockerfile:1
# The stock Triton image with its native backends, and the packages of the Python stages.

# The default release of builder/releases/releases.yaml (a test holds the two together).
ARG TRITON_RELEASE=26.07
FROM nvcr.io/nvidia/tritonserver:${TRITON_RELEASE}-py3
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
COPY docker/requirements-gpu.txt /opt/requirements-gpu.txt
RUN python3 -m pip install --requirement /opt/requirements-gpu.txt
# The watch lies beside its entry point, and finds itself there.
COPY docker/watch.py /opt/watch/watch.py
COPY builder/__init__.py /opt/watch/builder/__init__.py
COPY builder/watch /opt/watch/builder/watch
# The image has the user triton-server (1000) and starts as root.
USER 1000:1000
HEALTHCHECK --interval=5s --timeout=3s --start-period=300s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8003/v2/health/ready', timeout=2)"]
EXPOSE 8000 8001 8002 8003
# Instead of NVIDIA's entry point, which writes to the root file system.
ENTRYPOINT ["python3", "/opt/watch/watch.py", "tritonserver"]
CMD ["--model-repository=/models"]
