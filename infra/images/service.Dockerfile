# One image per light process: SERVICE is registry, ingestion, curation, evaluator, gateway or console. No torch inside.
ARG PYTHON=python:3.11-slim-bookworm
FROM ${PYTHON}
RUN useradd --uid 10001 --create-home pawl && install -d -o pawl -g pawl /state
WORKDIR /app
ARG SERVICE
COPY infra/locks/${SERVICE}.txt /app/lock.txt
RUN python3 -m venv /venv && /venv/bin/pip install --no-cache-dir --no-deps -r /app/lock.txt
COPY libs libs
COPY services services
# by number, so that a cluster can see that it is not root
USER 10001:10001
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PAWL_STATE_DIR=/state
ENTRYPOINT ["python", "-m"]
