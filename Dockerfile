# Two stages: the first builds and installs, the second holds what runs and no compiler.
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/mme
COPY pyproject.toml README.md LICENSE ./
COPY mme mme
COPY loaders loaders
ARG EXTRAS=xgboost
RUN /opt/mme/bin/pip install --no-cache-dir ".[${EXTRAS}]"

FROM python:3.11-slim
# What SageMaker's hosts ask of an image that serves many models and takes its port from them.
LABEL com.amazonaws.sagemaker.capabilities.multi-models=true \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true
RUN useradd --create-home --uid 10001 mme
COPY --from=build /opt/mme /opt/mme
# A container is reached from outside or not at all (in the ordinary mode with --access-keys or --no-auth only);
# the disk tier can be a volume.
ENV MME_HOST=0.0.0.0 MME_CACHE_DIR=/home/mme/cache MME_LOG_FORMAT=json ORT_DISABLE_TELEMETRY=1 PATH=/opt/mme/bin:$PATH
USER mme
WORKDIR /home/mme
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:%s/ping' % (os.environ.get('MME_PORT') or os.environ.get('SAGEMAKER_BIND_TO_PORT') or 8080), timeout=2)"]
ENTRYPOINT ["mme"]
CMD ["serve"]
