# `flowerml serve` in a container: predicting only, without torch.
#
#   docker build -t flowerml .
#   docker run -p 5001:5001 -e FLOWERML_TOKEN="$(openssl rand -hex 32)" -v "$PWD/models/flowers/classifier:/model:ro" flowerml
#   docker run -p 5001:5001 -e FLOWERML_TOKEN=… -e MLFLOW_TRACKING_URI=http://mlflow:5000 flowerml models:/flowers@champion
#
# It listens to other machines, so it starts with a token only (or --no-token). Options of `flowerml serve` follow the
# model: asked at another name or port than localhost:5001, it needs --allowed-host NAME[:PORT].
ARG PYTHON=3.11.7

FROM python:${PYTHON}-slim-bookworm AS wheel
WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY flowerml flowerml
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim-bookworm
# s3 as well where the registry's files are in a bucket of their own: --build-arg EXTRAS=serve,texts,s3
ARG EXTRAS=serve,texts
COPY constraints.txt /tmp/constraints.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    wheel="$(echo /wheels/flowerml-*.whl)" \
    && pip install --no-cache-dir --constraint /tmp/constraints.txt "flowerml[$EXTRAS] @ file://$wheel" \
    && rm /tmp/constraints.txt
RUN useradd --create-home --uid 1000 server
USER 1000
WORKDIR /home/server
ENV HF_HUB_DISABLE_TELEMETRY=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONUNBUFFERED=1
EXPOSE 5001
# Not curl, which the image lacks, and not /health, which needs the token. Another --port needs another check.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:5001/ready', timeout=4)"]
ENTRYPOINT ["flowerml", "serve", "--host", "0.0.0.0", "--port", "5001"]
CMD ["/model"]
