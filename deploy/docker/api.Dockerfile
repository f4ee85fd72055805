# syntax=docker/dockerfile:1
# The API, and the embedded Triton for machines without a GPU. No torch: about 600 MB smaller.
ARG PYTHON_IMAGE=python:3.11.10-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV POETRY_VIRTUALENVS_IN_PROJECT=true
RUN pip install --no-cache-dir poetry==2.2.1
WORKDIR /app
COPY pyproject.toml poetry.lock README.md LICENSE ./
RUN poetry install --only main --extras tracing --no-root --no-cache
COPY api api
COPY export export
RUN poetry install --only-root

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --create-home --home-dir /data voice \
    && install --directory --owner voice /data /models
WORKDIR /app
COPY --from=build /app /app
COPY model_repository model_repository
COPY triton_backends triton_backends
COPY samples samples
ENV PATH="/app/.venv/bin:$PATH" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    DATA_DIR=/data
USER 10001
EXPOSE 6500
VOLUME ["/data"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT', 6500)}/health/ready\", timeout=4)"]
STOPSIGNAL SIGTERM
CMD ["start"]
