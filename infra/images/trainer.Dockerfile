# The trainer. TORCH_INDEX chooses the build: .../whl/cpu or .../whl/cu130.
ARG PYTHON=python:3.11-slim-bookworm
FROM ${PYTHON}
ARG TORCH=torch==2.13.0+cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /app
COPY infra/locks/trainer.txt /app/lock.txt
RUN python3 -m venv /venv \
 && (/venv/bin/pip install --no-cache-dir --no-deps "${TORCH}" || /venv/bin/pip install --no-cache-dir --no-deps --index-url "${TORCH_INDEX}" "${TORCH}") \
 && /venv/bin/pip install --no-cache-dir --no-deps -r /app/lock.txt
COPY libs libs
COPY services services
RUN useradd --uid 10001 --create-home pawl && mkdir /state && chown pawl /state
USER pawl
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PAWL_STATE_DIR=/state PAWL_TRAINER_LOCK_FILE=/app/lock.txt \
    HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
ENTRYPOINT ["python", "-m"]
