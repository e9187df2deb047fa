# syntax=docker/dockerfile:1
# perf_analyzer from the wheel that last carried it for this glibc, instead of NVIDIA's SDK image of 10 GB.

FROM python:3.11-slim-bookworm AS install
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY docker/requirements-loadtest.txt /src/
RUN pip install --no-deps --require-hashes --target /opt/wheels --requirement /src/requirements-loadtest.txt \
    && install -D /opt/wheels/bin/perf_analyzer /opt/perf/bin/perf_analyzer \
    && install -D /opt/wheels/nvidia/cuda_runtime/lib/libcudart.so.12 /opt/perf/lib/libcudart.so.12

FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libb64-0d=1.2-5+b1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin loadtest
COPY --from=install /opt/perf /opt/perf
ENV LD_LIBRARY_PATH=/opt/perf/lib
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["/opt/perf/bin/perf_analyzer"]
CMD ["--help"]
