# The engine on NVIDIA GPUs: the vendor's image with vLLM and CUDA (the vLLM version of engine-cpu), our light part added.
ARG VLLM=vllm/vllm-openai:v0.32.0
FROM ${VLLM}
WORKDIR /app
COPY infra/locks/gateway.txt /app/lock.txt
# The image's torch, transformers and vLLM stay. What serves gRPC and speaks to the broker comes in our versions:
# generated stubs refuse an older protobuf than they were generated with.
RUN python3 -m pip install --no-cache-dir --no-deps $(grep -E \
 '^(argon2-cffi|argon2-cffi-bindings|fast-depends|faststream|googleapis-common-protos|grpcio(-[a-z-]+)?|minio|nats-py|opentelemetry-[a-z-]+|prometheus-client|protobuf|pycryptodome|pydantic-settings|python-dotenv|uvloop)==' \
 /app/lock.txt)
RUN useradd --uid 10001 --create-home pawl && install -d -o pawl -g pawl /state
COPY libs libs
COPY services services
# by number, so that a cluster can see that it is not root
USER 10001:10001
# what a processor does without: graphs of its kernels, and all memory that is left for keys and values
ENV PAWL_ENGINE_ENFORCE_EAGER=false PAWL_ENGINE_KV_CACHE_MIB=0
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PAWL_STATE_DIR=/state HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1
ENTRYPOINT ["python3", "-m"]
