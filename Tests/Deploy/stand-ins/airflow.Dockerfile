# Behaves like docker.io/apache/airflow:TAG as regards what our files use: the user airflow (50000, group 0), AIRFLOW_HOME, the
# variable AIRFLOW_VERSION, dumb-init and an entrypoint that understands `airflow ...` with and without the word. The packages
# are PyPI's, those listed in airflow-TAG.txt.
FROM docker.io/library/debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl dumb-init libpq5 libstdc++6 procps python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
ARG TAG
COPY airflow-$TAG.txt /tmp/packages
RUN python3 -m venv /home/airflow/venv \
    && /home/airflow/venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --requirement /tmp/packages
RUN useradd --uid 50000 --gid 0 --home-dir /home/airflow airflow \
    && mkdir -p /opt/airflow/dags /opt/airflow/logs /opt/airflow/plugins /opt/airflow/config \
    && chown -R airflow:0 /opt/airflow && chmod -R g+rwX /opt/airflow \
    && printf '%s\n' '#!/usr/bin/env bash' \
        'case "${1:-}" in bash | python | airflow) exec "$@" ;; *) exec airflow "$@" ;; esac' >/entrypoint \
    && chmod 0755 /entrypoint
ENV PATH=/home/airflow/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    AIRFLOW_HOME=/opt/airflow AIRFLOW_VERSION=$TAG PYTHONUNBUFFERED=1
WORKDIR /opt/airflow
USER 50000:0
ENTRYPOINT ["/usr/bin/dumb-init", "--", "/entrypoint"]
CMD []
