# Behaves like docker.io/library/rabbitmq as regards what our files use: RABBITMQ_DEFAULT_USER, RABBITMQ_DEFAULT_PASS,
# /etc/rabbitmq/conf.d, /var/lib/rabbitmq as its home. The broker is Debian's, whatever TAG says.
FROM docker.io/library/debian:bookworm-slim
ARG TAG
RUN apt-get update && apt-get install -y --no-install-recommends gosu rabbitmq-server && rm -rf /var/lib/apt/lists/* \
    && rm -rf /var/lib/rabbitmq && install -d -o rabbitmq -g rabbitmq -m 0755 /var/lib/rabbitmq /etc/rabbitmq/conf.d \
    && ln -sf /usr/lib/rabbitmq/bin/rabbitmq-diagnostics /usr/lib/rabbitmq/bin/rabbitmq-queues /usr/sbin/ \
    && printf '%s\n' '#!/bin/sh' 'set -e' \
        '[ "$(id -u)" != 0 ] || { chown rabbitmq:rabbitmq /var/lib/rabbitmq; exec gosu rabbitmq "$0" "$@"; }' \
        'umask 077' \
        'conf=/etc/rabbitmq/conf.d/10-defaults.conf' \
        'printf "loopback_users.guest = false\nlog.console = true\n" >$conf' \
        '[ -z "$RABBITMQ_DEFAULT_USER" ] || printf "default_user = %s\ndefault_pass = %s\n" "$RABBITMQ_DEFAULT_USER" "$RABBITMQ_DEFAULT_PASS" >>$conf' \
        'exec "$@"' >/usr/local/bin/docker-entrypoint.sh \
    && chmod 0755 /usr/local/bin/docker-entrypoint.sh
# Debian's wrappers want to be root or rabbitmq and switch by su; the programs behind them do not.
ENV PATH=/usr/lib/rabbitmq/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/var/lib/rabbitmq \
    RABBITMQ_LOGS=-
VOLUME /var/lib/rabbitmq
EXPOSE 5672
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["rabbitmq-server"]
