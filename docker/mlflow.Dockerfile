# The team's MLflow server, from a hash lock as the images of the steps are: `make mlflow-image` builds it, for
# deploy/mlflow and docker/compose.yaml. Its options are all environment: deploy/mlflow/server.env.
ARG BASE=docker.io/library/python:3.11.14-slim-bookworm

FROM ${BASE} AS mlflow
# A number, so that Kubernetes can verify runAsNonRoot; group 0, so that any other number it is given works alike.
RUN useradd --uid 1000 --gid 0 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin mlflow
# /tmp is the one place that must be writable.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    LOGNAME=mlflow \
    LANG=C.UTF-8 \
    MPLCONFIGDIR=/tmp/matplotlib \
    MLFLOW_DISABLE_TELEMETRY=true \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY docker/install docker/mlflow.lock /opt/retrainer/
RUN --mount=type=secret,id=ca-bundle python3 -m venv /opt/venv && sh /opt/retrainer/install mlflow.lock
# There is no git in here, of which MLflow would warn at each start.
ENV GIT_PYTHON_REFRESH=quiet
WORKDIR /tmp
USER 1000:0
EXPOSE 5000
CMD ["mlflow", "server"]
ARG VERSION
ARG COMMIT
# As in docker/Dockerfile: older podman and buildah would keep an earlier commit's words.
RUN test -n "${VERSION}" && test -n "${COMMIT}"
LABEL org.opencontainers.image.title="retrainer-mlflow" \
      org.opencontainers.image.description="MLflow's server with PostgreSQL's driver and S3" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.licenses="Apache-2.0"
