# The engine on NVIDIA GPUs: the vendor's image with vLLM and CUDA, and our light dependencies beside it.
ARG VLLM=vllm/vllm-openai:v0.24.0
FROM ${VLLM}
WORKDIR /app
COPY infra/locks/gateway.txt /app/lock.txt
# what the image brings stays as it is; only what it lacks is added
RUN python3 -m pip install --no-cache-dir --no-deps $(grep -E '^(faststream|nats-py|minio|grpcio|grpcio-health-checking|grpcio-reflection|grpcio-status|uvloop|pydantic-settings|prometheus-client|opentelemetry-[a-z-]+|pycryptodome|argon2-cffi|argon2-cffi-bindings|fast-depends)==' /app/lock.txt)
COPY libs libs
COPY services services
RUN mkdir /state
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PAWL_STATE_DIR=/state HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1
ENTRYPOINT ["python3", "-m"]
