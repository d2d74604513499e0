# The trainer. For NVIDIA GPUs: TORCH=torch==2.13.0+cu130 and TORCH_INDEX=https://download.pytorch.org/whl/cu130.
ARG PYTHON=python:3.11-slim-bookworm
FROM ${PYTHON}
RUN useradd --uid 10001 --create-home pawl && install -d -o pawl -g pawl /state
WORKDIR /app
ARG TORCH=torch==2.13.0+cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# From its own index with what it needs there (CUDA is in wheels of its own); the lock then settles the rest.
RUN python3 -m venv /venv \
 && (/venv/bin/pip install --no-cache-dir --no-deps "${TORCH}" \
     || /venv/bin/pip install --no-cache-dir --index-url "${TORCH_INDEX}" "${TORCH}")
COPY infra/locks/trainer.txt /app/lock.txt
RUN /venv/bin/pip install --no-cache-dir --no-deps -r /app/lock.txt
COPY libs libs
COPY services services
# by number, so that a cluster can see that it is not root
USER 10001:10001
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PAWL_STATE_DIR=/state \
    PAWL_TRAINER_LOCK_FILE=/app/lock.txt HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
ENTRYPOINT ["python", "-m"]
