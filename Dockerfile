# Relume on an x86-64 machine, on its processor.
#
#   docker build -t relume .
#   docker run -d --name relume --restart unless-stopped --network host --read-only --tmpfs /tmp \
#     --cap-drop ALL --security-opt no-new-privileges --pids-limit 2048 \
#     -v relume-data:/data -v /srv/films:/films relume
#   docker logs relume            # shows the link for creating the first account
# On the host network, relume.local is found and the log shows the page's address; with -p 8443:8443 instead, use the address of
# the host. Watch folders and destinations are below /films; they must be writable for user 10001, or the container must run as
# their owner: --user "$(id -u):$(id -g)", with a data volume of that user.
#
# One file, without the server:
#
#   docker run --rm --read-only --tmpfs /tmp --user "$(id -u)" -v "$PWD:/films" \
#     relume enhance /films/clip.mp4 -o /films/better.mp4
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
WORKDIR /build
# The tested versions, checked by their hashes; `make lock` renews them.
COPY requirements.lock ./
RUN python -m venv /opt/relume && /opt/relume/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY kernels kernels
COPY runtime runtime
COPY appliance appliance
COPY export export
COPY zoo zoo
RUN /opt/relume/bin/pip install --no-cache-dir --no-deps .

FROM python:${PYTHON}-slim-bookworm
COPY --from=build /opt/relume /opt/relume
# The root may be read-only: compiled kernels go to /tmp, everything that is kept to /data.
ENV PATH=/opt/relume/bin:$PATH \
    NUMBA_CACHE_DIR=/tmp/numba \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RELUME_DATA=/data
RUN useradd --uid 10001 --create-home relume && install -d -o relume -g relume -m 0700 /data
USER relume
VOLUME /data
WORKDIR /data
EXPOSE 8443 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["python", "-m", "appliance.maintenance.health"]
ENTRYPOINT ["relume"]
CMD ["serve"]
