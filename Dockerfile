# hbtd in a container:
#   docker build -t cray/hbtd:test .
#   docker run -p 28500:28500 --name hbtd cray/hbtd:test
# Tell it where HSM is (-e HBTD_SM_URL=https://hsm.example/hsm/v2), and give it time to stop in good order
# (--stop-timeout 60).

FROM python:3.13-slim AS build
WORKDIR /src
# Dependencies first, in the versions of the lock files: these layers change seldom.
COPY requirements requirements
RUN pip install --no-cache-dir --require-hashes --requirement requirements/tools.txt \
    && python -m venv /opt/hbtd \
    && /opt/hbtd/bin/pip install --no-cache-dir --require-hashes --requirement requirements/run.txt
COPY setup.cfg pyproject.toml README.md LICENSE CHANGELOG.md CONTRIBUTING.md SECURITY.md ./
COPY deploy deploy
COPY docs docs
COPY hbtd hbtd
COPY twisted twisted
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
    && /opt/hbtd/bin/pip install --no-cache-dir --no-deps /dist/hbtd-*.whl

FROM python:3.13-slim
COPY --from=build /opt/hbtd /opt/hbtd
# Write twistd's plugin cache now, as root: the user below cannot.
RUN /opt/hbtd/bin/hbtd --version && /opt/hbtd/bin/twistd --help > /dev/null
# Nothing outlives a container unless it is given a volume, and a store on that volume.
ENV HBTD_KV_URL=mem:
# The default, --operator_access=loopback, lets nobody outside the container change parameters. Set
# HBTD_OPERATOR_ACCESS, for example to a token file (docs/security.md).
USER nobody
EXPOSE 28500
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/hbtd/bin/hbtd"]
