# syntax=docker/dockerfile:1
# Fetches checkpoints and fills a model repository; with torch, used once and not kept running.
ARG PYTHON_IMAGE=python:3.11.10-slim-bookworm
FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --create-home voice && install --directory --owner voice /app /models
WORKDIR /app
USER 10001
COPY --chown=voice pyproject.toml poetry.lock README.md LICENSE dev.sh ./
COPY --chown=voice scripts scripts
COPY --chown=voice client client
COPY --chown=voice api api
COPY --chown=voice export export
COPY --chown=voice triton_backends triton_backends
RUN ./dev.sh export --help >/dev/null
COPY --chown=voice model_repository model_repository
COPY --chown=voice tests/data tests/data
ENV MODEL_REPOSITORY=/models
ENTRYPOINT ["./dev.sh", "export"]
CMD ["--help"]
