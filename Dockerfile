# The service with nothing but what it needs, as a user without rights. Data that must survive is in /var/lib/firehose,
# the configuration is /etc/firehose/firehose.yaml.
#
#   docker build -t firehose .
#   docker run -p 4573:4573 -v firehose-data:/var/lib/firehose -v ./firehose.yaml:/etc/firehose/firehose.yaml:ro firehose

FROM python:3.11-slim AS build
WORKDIR /source
RUN python -m venv /opt/firehose
COPY pyproject.toml README.md LICENSE ./
COPY firehose firehose
COPY transforms transforms
COPY destinations destinations
RUN /opt/firehose/bin/pip install --no-cache-dir --disable-pip-version-check .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/firehose --create-home firehose
COPY --from=build /opt/firehose /opt/firehose
COPY config/deploy/firehose.yaml /etc/firehose/firehose.yaml
ENV PATH=/opt/firehose/bin:$PATH PYTHONUNBUFFERED=1
USER firehose
WORKDIR /var/lib/firehose
VOLUME /var/lib/firehose
EXPOSE 4573
# A stop drains: docker must wait longer than service.drain_seconds before it kills (stop_grace_period, --stop-timeout).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:4573/readyz', timeout=4)"]
ENTRYPOINT ["firehose"]
CMD ["serve", "-c", "/etc/firehose/firehose.yaml"]
