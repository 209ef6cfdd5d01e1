# The image of carp-sidecar. Any builder takes it:
#
#   docker build --tag registry.example/carp-sidecar:0.1.0 .
#   buildah build --tag registry.example/carp-sidecar:0.1.0 --timestamp 0 .
#
# Python packages come as wheels with pinned hashes (requirements.txt, `make lock`); nothing is compiled, and neither a
# compiler nor pip's cache is in the result. 61 MB come on top of the base.
#
# Reproducible: pin the base by digest (PYTHON_IMAGE=docker.io/library/python@sha256:...) and let the builder write the
# layers' times: `docker buildx build --build-arg SOURCE_DATE_EPOCH=0 --output type=image,rewrite-timestamp=true`, or
# buildah's --timestamp. What is in /opt/carp-sidecar has the same bytes and times anyway.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG SOURCE_DATE_EPOCH=0
# A mirror, or with a folder of wheels none at all: --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/wheels
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
ENV PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements.txt /build/
RUN python3 -m venv /build/venv \
 && /build/venv/bin/python -m pip install --quiet --no-compile --no-deps --only-binary=:all: --require-hashes \
        --target /opt/carp-sidecar --requirement /build/requirements.txt \
 && rm -rf /opt/carp-sidecar/bin
# The Kubernetes client loads its models and calls by kind on demand; the agent reads metadata by paths of its own, so
# 60 MB of them stay out. Files that differ from build to build (RECORD's order, installer's marks) go too.
RUN find /opt/carp-sidecar/kubernetes -path '*/client/models/*' -name '*.py' ! -name __init__.py -delete \
 && find /opt/carp-sidecar/kubernetes -path '*/client/api/*' -name '*.py' ! -name __init__.py -delete \
 && find /opt/carp-sidecar -path '*.dist-info/*' ! -name METADATA ! -path '*icenses/*' ! -name 'LICENSE*' -type f -delete
COPY LICENSE /opt/carp-sidecar/
COPY sidecar /opt/carp-sidecar/sidecar
# Compiled here, since the root is read-only where it runs and a process that compiles by itself holds 4 to 8 MB more. By
# the hash of the source and unchecked: no time of a file matters.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /opt/carp-sidecar \
 && printf '%s\n' '#!/usr/bin/env -S python3 -P' 'import sys' 'from sidecar.__main__ import main' 'sys.exit(main())' \
        > /build/carp-sidecar \
 && chmod 0755 /build/carp-sidecar \
 && find /opt/carp-sidecar /build/carp-sidecar -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH}" {} +

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
ARG SOURCE_DATE_EPOCH=0
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="carp-sidecar" \
      org.opencontainers.image.description="Virtual-IP failover for bare-metal Kubernetes by CARP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
# The official base comes without the standard library's compiled files; Debian's own has them, and nothing happens.
RUN touch /tmp/before \
 && stdlib=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))') \
 && python3 -m compileall -q --invalidation-mode unchecked-hash \
        -x '/(test|tests|idlelib|lib2to3|tkinter|ensurepip|(site|dist)-packages)/' "$stdlib" \
 && find "$stdlib" -newer /tmp/before -exec touch --date "@${SOURCE_DATE_EPOCH}" {} + \
 && rm /tmp/before
COPY --from=build /opt/carp-sidecar /opt/carp-sidecar
COPY --from=build /build/carp-sidecar /usr/local/bin/carp-sidecar
ENV PYTHONPATH=/opt/carp-sidecar PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# uid 0 with NET_ADMIN and NET_RAW and nothing else, as the chart has it. NET_ADMIN: addresses with a lifetime, nftables,
# multicast membership. NET_RAW: packet sockets for CARP, ARP and ND. Another user would get neither: a container's
# capabilities reach it only by file capabilities, which no_new_privs forbids. The engine, which parses what
# strangers send, and the agent drop both, and change to uid 65534 where CAP_SETUID lets them.
USER 0:0
# No HEALTHCHECK: Kubernetes does not run it, and the chart's probes ask the same question.
ENTRYPOINT ["carp-sidecar"]
CMD ["run"]
