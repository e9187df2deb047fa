# syntax=docker/dockerfile:1
# The generator itself, with torch for the CPU.

FROM python:3.11-slim-bookworm
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# The CPU build of torch: the default one brings the CUDA libraries.
RUN pip install --index-url https://download.pytorch.org/whl/cpu torch==2.13.0
COPY LICENSE README.md pyproject.toml /src/
COPY builder /src/builder
COPY clients /src/clients
COPY templates /src/templates
RUN pip install /src \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin builder \
    && install --directory --mode=1777 /cache
ENV HF_HOME=/cache/huggingface HOME=/tmp PYTHONDONTWRITEBYTECODE=1
WORKDIR /work
USER 10001:10001
ENTRYPOINT ["builder"]
CMD ["--help"]
