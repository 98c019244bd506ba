# hbtd in a container:
#   docker build -t cray/hbtd:test .
#   docker run -p 28500:28500 --name hbtd cray/hbtd:test
# It needs to know where HSM is (-e HBTD_SM_URL=https://hsm.example/hsm/v2), and time to end in good order
# (--stop-timeout 60).

FROM python:3.13-slim AS build
WORKDIR /src
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY docs/hbtd.8 docs/
COPY hbtd hbtd
COPY twisted twisted
RUN python -m venv /opt/hbtd && /opt/hbtd/bin/pip install --no-cache-dir .

FROM python:3.13-slim
COPY --from=build /opt/hbtd /opt/hbtd
# Let twistd's cache of plugins be written once, by somebody who may.
RUN /opt/hbtd/bin/hbtd --version && /opt/hbtd/bin/twistd --help > /dev/null
# A container has nothing that outlives it, unless it is given a volume and a store on that.
ENV HBTD_KV_URL=mem:
# Nobody outside is on a container's own host: to change parameters, say by HBTD_OPERATOR_ACCESS who
# may, for example with a file of tokens (docs/security.md).
USER nobody
EXPOSE 28500
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/hbtd/bin/hbtd"]
