# The gateway alone: Redis and the models are elsewhere.
#   docker build -t distill-router .
#   docker run -p 8080:8080 -v "$PWD/router.yaml:/etc/distill-router/router.yaml:ro" distill-router
# BASE is any image with Python 3.11 or newer as `python3`, with its venv module. EXTRAS: `[archive]` for an image that
# runs `disagreements archive`, `[s3]` for one that writes to S3, `[learn]` for one that trains policies (on a schedule, or
# with `policy train`); deciding by a trained policy needs none. The BASE of `[learn]` needs Debian's libgomp1:
#   printf 'FROM python:3.12-slim\nRUN apt-get update && apt-get install -y libgomp1\n' | docker build -t python-libgomp1 -
#   docker build -t distill-router --build-arg BASE=python-libgomp1 --build-arg EXTRAS='[learn]' .
ARG BASE=python:3.12-slim
ARG EXTRAS=

FROM ${BASE} AS build
ARG EXTRAS
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY policies policies
COPY router router
COPY serving serving
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
# The build tools live in an environment of their own; what is copied on holds the gateway only.
RUN python3 -m venv /opt/build \
    && /opt/build/bin/python -m pip install --quiet -c constraints.txt hatchling editables \
    && python3 -m venv /opt/distill-router \
    && /opt/build/bin/python -m hatchling build -t wheel -d /tmp/wheels \
    && /opt/distill-router/bin/python -m pip install --quiet -c constraints.txt "$(echo /tmp/wheels/*.whl)${EXTRAS}" \
    && /opt/distill-router/bin/python -m pip uninstall --quiet --yes pip

FROM ${BASE}
LABEL org.opencontainers.image.title="distill-router" \
      org.opencontainers.image.description="Serves a distilled student where the loss does not matter, and its teacher where it does" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/distill-router /opt/distill-router
ENV PATH=/opt/distill-router/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# The spool of the evidence is relative to the working directory; mount a volume there to keep it.
WORKDIR /var/lib/distill-router
RUN chown 10001:10001 /var/lib/distill-router
USER 10001:10001
EXPOSE 8080
# SIGTERM drains for server.drain_s (30 s): docker stop --time 45. The check knows the default port only.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["distill-router"]
CMD ["serve", "--config", "/etc/distill-router/router.yaml", "--host", "0.0.0.0"]
