# The engine on CPU: vLLM's CPU build beside a CPU torch; torchvision, torchaudio and torchcodec must stay away.
ARG PYTHON=python:3.11-slim-bookworm
FROM ${PYTHON}
ARG TORCH=torch==2.13.0+cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /app
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ libnuma1 && rm -rf /var/lib/apt/lists/*
COPY infra/locks/engine-cpu.txt /app/lock.txt
RUN python3 -m venv /venv \
 && (/venv/bin/pip install --no-cache-dir --no-deps "${TORCH}" || /venv/bin/pip install --no-cache-dir --no-deps --index-url "${TORCH_INDEX}" "${TORCH}") \
 && /venv/bin/pip install --no-cache-dir --no-deps -r /app/lock.txt
COPY libs libs
COPY services services
RUN useradd --uid 10001 --create-home pawl && mkdir /state && chown pawl /state
USER pawl
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PAWL_STATE_DIR=/state HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1
ENTRYPOINT ["python", "-m"]
