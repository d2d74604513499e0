# One image per light process: SERVICE is registry, ingestion, curation, evaluator, gateway or console. No torch inside.
ARG PYTHON=python:3.11-slim-bookworm
FROM ${PYTHON}
ARG SERVICE
WORKDIR /app
COPY infra/locks/${SERVICE}.txt /tmp/lock.txt
RUN python3 -m venv /venv && /venv/bin/pip install --no-cache-dir --no-deps -r /tmp/lock.txt
COPY libs libs
COPY services services
RUN useradd --uid 10001 pawl && mkdir /state && chown pawl /state
USER pawl
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PAWL_STATE_DIR=/state
ENTRYPOINT ["python", "-m"]
