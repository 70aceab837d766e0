# Three images: serve (processor), serve-gpu (CUDA out of wheels, no CUDA base image) and train.
#   docker build --target serve -t adafocus:cpu .
# Layers are ordered by how rarely they change (system, dependencies, bundle, code), so that a change of code rebuilds
# in seconds.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

# --- Lists of packages with their hashes, of docker/locked: dependencies are rebuilt only if these lists change.
# EXTRAS adds extras of the project to the serving images, separated by commas: --build-arg EXTRAS=otel
FROM base AS wanted
ARG EXTRAS=
WORKDIR /wanted
COPY docker/requirements.py ./
COPY docker/locked ./locked
RUN python3 requirements.py "serve,${EXTRAS}" >serve.txt \
 && python3 requirements.py "gpu,${EXTRAS}" >serve-gpu.txt \
 && python3 requirements.py train,pretrained,export >train.txt \
 && python3 requirements.py build >build.txt

# --- Dependencies, each set in an environment without pip, because the final images need no installer. A file whose
# hash is not in the list is refused.
FROM base AS serve-dependencies
WORKDIR /build
COPY --from=wanted /wanted/serve.txt ./
RUN python3 -m venv --without-pip /opt/adafocus \
 && pip --python /opt/adafocus/bin/python install --require-hashes --no-deps -r serve.txt

FROM base AS serve-gpu-dependencies
WORKDIR /build
COPY --from=wanted /wanted/serve-gpu.txt ./
RUN python3 -m venv --without-pip /opt/adafocus \
 && pip --python /opt/adafocus/bin/python install --require-hashes --no-deps -r serve-gpu.txt

FROM base AS train-dependencies
WORKDIR /build
COPY --from=wanted /wanted/train.txt ./
RUN python3 -m venv --without-pip /opt/adafocus \
 && pip --python /opt/adafocus/bin/python install --require-hashes --no-deps -r train.txt

# --- The code, as a tree that is copied over an environment. The one for serving contains no training code.
FROM base AS builder
WORKDIR /build
COPY --from=wanted /wanted/build.txt ./
RUN python3 -m venv /opt/adafocus \
 && /opt/adafocus/bin/pip install --require-hashes --no-deps -r build.txt

FROM builder AS serving-code
COPY pyproject.toml README.md LICENSE ./
# The links in adafocus/ to folders that are not copied lead nowhere, and are left out.
COPY adafocus ./adafocus
COPY bundle ./bundle
COPY video ./video
COPY service ./service
COPY cli ./cli
RUN /opt/adafocus/bin/pip install --no-deps --no-build-isolation --prefix /code .

FROM builder AS whole-code
COPY pyproject.toml README.md LICENSE ./
COPY adafocus ./adafocus
COPY bundle ./bundle
COPY video ./video
COPY model ./model
COPY training ./training
COPY export ./export
COPY service ./service
COPY cli ./cli
RUN /opt/adafocus/bin/pip install --no-deps --no-build-isolation --prefix /code .

# --- The common base of the final images.
FROM base AS runtime
LABEL org.opencontainers.image.title="adafocus" \
      org.opencontainers.image.description="Video classification that stops as soon as it is confident" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin adafocus
# A volume that is mounted here gets this folder's owner. The service keeps prepared models only in a folder that no
# other user can write to.
RUN install -d -o 10001 -g 10001 -m 700 /var/cache/adafocus
# The root file system is meant to be read-only, so HOME is the tmpfs that also holds uploads.
ENV PATH=/opt/adafocus/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/tmp
ENTRYPOINT ["adafocus"]

FROM runtime AS serving
ENV ADAFOCUS_HOST=0.0.0.0 \
    ADAFOCUS_PORT=8000 \
    ADAFOCUS_BUNDLE=/bundles/sky \
    ADAFOCUS_SAMPLES=/samples
EXPOSE 8000
STOPSIGNAL SIGTERM
COPY docker/healthcheck.py /usr/local/lib/adafocus/healthcheck.py
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python3", "-I", "-S", "/usr/local/lib/adafocus/healthcheck.py"]
CMD ["serve"]

# --- The images.
FROM serving AS serve
COPY --from=serve-dependencies /opt/adafocus /opt/adafocus
COPY samples /samples
COPY bundles /bundles
COPY --from=serving-code /code /opt/adafocus
USER 10001:10001

FROM serving AS serve-gpu
# NVIDIA's container runtime reads the first two. The third makes a missing GPU an error instead of a slow service.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    ADAFOCUS_BACKEND=onnxruntime-cuda
COPY --from=serve-gpu-dependencies /opt/adafocus /opt/adafocus
COPY samples /samples
COPY bundles /bundles
COPY --from=serving-code /code /opt/adafocus
USER 10001:10001

FROM runtime AS train
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=train-dependencies /opt/adafocus /opt/adafocus
COPY --from=whole-code /code /opt/adafocus
WORKDIR /runs
USER 10001:10001
CMD ["train", "--help"]
