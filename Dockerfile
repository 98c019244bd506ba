# hbtd in a container, for each platform that Debian and the locked packages have:
#   docker build -t cray/hbtd:test .
#   docker run -p 28500:28500 --name hbtd -e KV_URL=mem: cray/hbtd:test
# Options are set in the environment, or follow the image's name. Give it time to stop in good order
# (--stop-timeout 60). It writes nothing but records (--read-only). deploy/compose/ is a whole system.
#
# To build the same image again, pin the base to what the tag means today; `docker buildx imagetools inspect
# python:3.13-slim-trixie` prints its digest: --build-arg PYTHON=python:3.13-slim-trixie@sha256:...
# Both stages begin with it, and the builder refuses a base with another digest.
ARG PYTHON=python:3.13-slim-trixie

FROM ${PYTHON} AS build
WORKDIR /src
# When the image's files were made, as far as one can see: git log -1 --format=%ct
ARG SOURCE_DATE_EPOCH=1700000000
ENV PYTHONDONTWRITEBYTECODE=1
# Dependencies first, in the versions of the lock files: these layers change seldom.
COPY requirements requirements
RUN pip install --no-cache-dir --no-compile --require-hashes --requirement requirements/tools.txt \
    && python -m venv --without-pip /opt/hbtd \
    && pip --python /opt/hbtd/bin/python install --no-cache-dir --no-compile --require-hashes \
        --requirement requirements/run.txt
COPY setup.cfg pyproject.toml README.md LICENSE CHANGELOG.md CONTRIBUTING.md SECURITY.md ./
COPY deploy deploy
COPY docs docs
COPY hbtd hbtd
COPY twisted twisted
# The user of the image can write no bytecode, nor the cache of twistd's plugins. Bytecode that names hashes
# instead of times is the same each time.
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
    && pip --python /opt/hbtd/bin/python install --no-cache-dir --no-compile --no-deps /dist/hbtd-*.whl \
    && /opt/hbtd/bin/twistd --help > /dev/null \
    && /opt/hbtd/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/hbtd/lib

FROM ${PYTHON}
# An init, and no pip: nothing is installed into a running container.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini=0.19.0-* \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/aux-cache /var/log/apt /var/log/dpkg.log \
    && python -m pip uninstall --yes --root-user-action=ignore pip \
    && rm -rf "$(python -c 'import ensurepip; print(ensurepip.__path__[0])')"
COPY --from=build /opt/hbtd /opt/hbtd
ENV PATH=/opt/hbtd/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HBTD_ORIGINAL_ENV=yes \
    KV_URL=
# The default, --operator_access=loopback, lets nobody outside the container change parameters. Set
# HBTD_OPERATOR_ACCESS, for example to a token file (docs/security.md).
USER 65534:65534
EXPOSE 28500
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=3 \
    CMD ["/opt/hbtd/bin/hbtd", "--health"]
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/hbtd/bin/hbtd"]
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="hbtd" \
    org.opencontainers.image.description="Heartbeat Tracking Service" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
