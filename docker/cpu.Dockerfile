# syntax=docker/dockerfile:1
# A real tritonserver without the NGC image: the one in the wheel nvidia-pytriton, with the
# Python backend, the response cache and our Python-based ONNX Runtime backend. No GPU, no torch.

FROM python:3.11-slim-bookworm AS install
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/venv
COPY docker/requirements-serve.txt /src/docker/
RUN /opt/venv/bin/pip install --requirement /src/docker/requirements-serve.txt \
    && /opt/venv/bin/pip install --no-deps nvidia-pytriton==0.7.0
COPY LICENSE README.md pyproject.toml /src/
COPY builder /src/builder
COPY clients /src/clients
COPY templates /src/templates
# Without dependencies: serving needs none of the exporter's (torch, transformers).
RUN /opt/venv/bin/pip install --no-deps /src

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin triton
COPY --from=install /opt/venv /opt/venv
COPY docker/serve.py /opt/serve.py
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8000 8001 8002 8003
# 8003 asks the models; Triton's own health on 8000 stays true while one is dead.
HEALTHCHECK --interval=5s --timeout=3s --start-period=300s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8003/v2/health/ready', timeout=2)"]
ENTRYPOINT ["python3", "/opt/serve.py"]
CMD ["/models"]
