# The daemon's image: docs/image.md. `make image` builds it where there is no registry.
#
# BASE        Debian, or a base with Python 3.11 or later at /usr/bin/python3 and CA
#             certificates; what it lacks of them is installed with apt-get.
# BUILD_BASE  the same, to build in: with venv and pip besides.
ARG BASE=debian:bookworm-slim
ARG BUILD_BASE=${BASE}

FROM ${BASE} AS runtime
# Bytecode that is never compared with its source (unchecked-hash): it stays valid when
# the builder changes times, and a start on a read-only root compiles nothing. No file
# gives its caller another user's rights. One layer, for both rewrite what is there.
RUN if [ ! -x /usr/bin/python3 ] || [ ! -s /etc/ssl/certs/ca-certificates.crt ]; then \
      apt-get update -qq \
      && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends ca-certificates python3 \
      && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*; \
    fi \
    && /usr/bin/python3 -m compileall -q -f --invalidation-mode unchecked-hash \
      /usr/lib/python3* \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +

FROM ${BUILD_BASE} AS build
RUN /usr/bin/python3 -c 'import ensurepip' 2>/dev/null \
    || { apt-get update -qq \
      && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends ca-certificates python3-venv; }
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# Secrets, for they are of the place where it is built: pip's configuration and the
# certificates of whoever stands between. Neither is needed, neither remains.
COPY requirements/ /src/requirements/
RUN --mount=type=secret,id=pip-config,target=/etc/pip.conf \
    --mount=type=secret,id=pip-ca,target=/run/pip-ca.pem \
    /usr/bin/python3 -m venv /tools \
    && /tools/bin/pip install -q --require-hashes --only-binary :all: \
      -r /src/requirements/build.txt \
    && /usr/bin/python3 -m venv --without-pip /opt/k8s-sdkms-plugin \
    && /tools/bin/pip --python /opt/k8s-sdkms-plugin/bin/python install -q \
      --require-hashes --only-binary :all: --no-compile -r /src/requirements/run.txt
# The time that the wheel's files get; seconds since 1970.
ARG SOURCE_DATE_EPOCH=1577836800
COPY LICENSE README.md pyproject.toml /src/
COPY src/ /src/src/
# Of the programs that packages bring, ours alone stays, and it reads neither PYTHON*
# variables nor a user's packages (-I).
RUN cd /opt/k8s-sdkms-plugin \
    && export SOURCE_DATE_EPOCH \
    && /tools/bin/pip wheel -q --no-index --no-deps --no-build-isolation \
      --wheel-dir /wheel /src \
    && /tools/bin/pip --python bin/python install -q --no-index --no-deps --no-compile \
      /wheel/*.whl \
    && sed -i '1s/$/ -I/' bin/k8s-sdkms-plugin \
    && find bin -mindepth 1 -not -name 'python*' -not -name k8s-sdkms-plugin -delete \
    && /usr/bin/python3 -m compileall -q -f --invalidation-mode unchecked-hash lib

FROM runtime
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="k8s-sdkms-plugin" \
      org.opencontainers.image.description="A Kubernetes KMS v2 plugin for Fortanix DSM" \
      org.opencontainers.image.licenses="MPL-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/k8s-sdkms-plugin /opt/k8s-sdkms-plugin
# The path in the Go plugin's image; what follows it are the Go plugin's arguments, or a
# command of ours.
RUN ln -s /opt/k8s-sdkms-plugin/bin/k8s-sdkms-plugin /usr/bin/k8s-sdkms-plugin
# Asks the daemon's socket whether it answers at all: never DSM, for no restart of ours
# brings DSM back.
HEALTHCHECK --interval=60s --timeout=10s --start-period=30s --retries=3 \
    CMD ["/bin/k8s-sdkms-plugin", "status", "--alive"]
USER 0:0
STOPSIGNAL SIGTERM
ENTRYPOINT ["/bin/k8s-sdkms-plugin"]
