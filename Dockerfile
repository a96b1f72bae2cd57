# fclip with everything from the lock. CPU and GPU: torch's wheel brings CUDA; for another base, --build-arg BASE=...
#   docker build -t fclip . && docker run --rm -v "$PWD:/data" fclip predict clip.mp4
#   docker run --gpus all ...                     with the NVIDIA container toolkit
ARG BASE=python:3.12-slim
FROM ${BASE}
# what MediaPipe loads
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libegl1 libgles2 python3-pip \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/fclip
COPY requirements.lock ./
RUN python3 -m pip install --no-cache-dir --break-system-packages -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY fclip ./fclip
RUN python3 -m pip install --no-cache-dir --break-system-packages --no-deps --no-build-isolation . && fclip doctor
ENV FCLIP_WEIGHTS=/weights
VOLUME ["/weights", "/data"]
WORKDIR /data
ENTRYPOINT ["fclip"]
