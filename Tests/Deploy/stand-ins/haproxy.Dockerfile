# Behaves like docker.io/library/haproxy as regards what our files use: the configuration's place, the user haproxy, reload on
# SIGUSR2. The program is Debian's, whatever TAG says.
FROM docker.io/library/debian:bookworm-slim
ARG TAG
RUN apt-get update && apt-get install -y --no-install-recommends haproxy && rm -rf /var/lib/apt/lists/* \
    && mkdir -p /usr/local/etc/haproxy \
    && printf '%s\n' '#!/bin/sh' 'case "$1" in "" | -*) set -- haproxy "$@" ;; esac' \
        'if [ "$1" = haproxy ]; then shift; set -- haproxy -W -db "$@"; fi' 'exec "$@"' >/usr/local/bin/docker-entrypoint.sh \
    && chmod 0755 /usr/local/bin/docker-entrypoint.sh
STOPSIGNAL SIGUSR1
USER haproxy
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
