# The engine on CPU: vLLM's CPU build beside a CPU torch; torchvision, torchaudio and torchcodec must stay away.
ARG PYTHON=python:3.11-slim-bookworm
FROM ${PYTHON}
# torch compiles kernels at run time
RUN apt-get update && apt-get install -y --no-install-recommends g++ libnuma1 && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home pawl && install -d -o pawl -g pawl /state
WORKDIR /app
ARG TORCH=torch==2.13.0+cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python3 -m venv /venv \
 && (/venv/bin/pip install --no-cache-dir --no-deps "${TORCH}" \
     || /venv/bin/pip install --no-cache-dir --no-deps --index-url "${TORCH_INDEX}" "${TORCH}")
COPY infra/locks/engine-cpu.txt /app/lock.txt
# Triton is a gigabyte that has no CPU backend: vLLM and xgrammar go without it.
RUN sed -i '/^triton==/d' /app/lock.txt && /venv/bin/pip install --no-cache-dir --no-deps -r /app/lock.txt
COPY libs libs
COPY services services
# by number, so that a cluster can see that it is not root
USER 10001:10001
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PAWL_STATE_DIR=/state \
    HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1
ENTRYPOINT ["python", "-m"]
