# sidecar as an image, and Airflow with it. Everything a run needs is in one folder, /opt/sidecar: the binary, and in lib/ the
# libraries that it was linked with, apart from glibc. The binary looks there first (its RPATH), so the folder works in any
# image with glibc 2.36 or later, whatever that has installed, and changes nothing for the command it runs:
#
#   COPY --from=sidecar /opt/sidecar /opt/sidecar                      in a Dockerfile
#   command: [cp, -R, /opt/sidecar/., /where/an/emptyDir/is/mounted]   in an init container of this image
#
# docker build .                      the target `sidecar`: the source of that COPY, and the commands lease, check, migrate
# docker build --target airflow .     Airflow, with `sidecar run --` in front of what is run
#
# The files of a build with the same base images, packages and SOURCE_DATE_EPOCH are the same.

ARG SWIFT_IMAGE=swift:6.3-bookworm
ARG BASE_IMAGE=debian:bookworm-slim
ARG AIRFLOW_IMAGE=apache/airflow
ARG AIRFLOW_VERSION=3.3.2

FROM ${SWIFT_IMAGE} AS build
# Not pinned (DL3008): a library that a database's password passes through should come with its latest fixes, and Debian keeps
# only those. They change nothing else within a release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils libpq-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The dependencies apart from the sources: they change rarely.
COPY Package.swift ./
RUN swift package resolve
COPY Sources Sources
COPY Tests Tests
# An RPATH, not the RUNPATH that linkers write by default: only the former is also asked for what the libraries need.
# .swift_modhash (for incremental builds only), and the build ID over it, are the two things that differ from build to build.
# $ORIGIN is the loader's to expand, not the shell's (SC2016).
# hadolint ignore=SC2016
RUN swift build -c release --product sidecar -Xswiftc -static-stdlib \
        -Xlinker --disable-new-dtags -Xlinker -rpath -Xlinker '$ORIGIN/lib' \
    && strip --remove-section=.swift_modhash --remove-section=.note.gnu.build-id \
        -o sidecar "$(swift build -c release --show-bin-path)/sidecar"
# All that ldd names, except what is glibc's: that is one with the loader of the image it will run in, and with its kernel.
# Each comes with its package's licence.
RUN mkdir -p /rootfs/opt/sidecar/lib /rootfs/opt/sidecar/licenses \
    && cp sidecar /rootfs/opt/sidecar/ \
    && ldd sidecar >libraries \
    && awk '$2 == "=>" { print $3 }' libraries >paths \
    && while read -r library; do \
        package=$(dpkg-query --search "*/${library##*/}") \
        && package=${package%%:*} \
        && case $package in libc6) continue ;; "") exit 1 ;; esac \
        && cp --dereference "$library" /rootfs/opt/sidecar/lib/ \
        && cp "/usr/share/doc/$package/copyright" "/rootfs/opt/sidecar/licenses/$package" || exit 1; \
    done <paths
COPY LICENSE /rootfs/opt/sidecar/
# /run/sidecar, for the readiness file, is for whoever the container runs as: anybody may write, and nobody may replace what is
# another's. A tmpfs mounted there takes its mode over.
ARG SOURCE_DATE_EPOCH=0
RUN mkdir -p /rootfs/usr/local/bin /rootfs/run/sidecar \
    && chmod -R u=rwX,go=rX /rootfs/opt/sidecar \
    && chmod 1777 /rootfs/run/sidecar \
    && ln -s /opt/sidecar/sidecar /rootfs/usr/local/bin/sidecar \
    && find /rootfs -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

FROM ${AIRFLOW_IMAGE}:${AIRFLOW_VERSION} AS airflow
COPY --from=build /rootfs/ /
# What the entrypoint of Airflow's image does for a user who is not in /etc/passwd, done without a shell: a home that is
# Airflow's, and a name for Python's getpass.
ENV HOME=/home/airflow USER=airflow
ENTRYPOINT ["/opt/sidecar/sidecar", "run", "--"]
CMD ["airflow", "scheduler"]
# Whatever the base image says: only SIGTERM and SIGINT stop a sidecar, every other signal goes on to the command.
STOPSIGNAL SIGTERM
ARG VERSION=""
ARG REVISION=""
ARG SOURCE=""
ARG AIRFLOW_IMAGE
ARG AIRFLOW_VERSION
LABEL org.opencontainers.image.title="Airflow with sidecar" \
      org.opencontainers.image.description="Exactly one airflow scheduler, by a lease in PostgreSQL" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${AIRFLOW_IMAGE}:${AIRFLOW_VERSION}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

FROM ${BASE_IMAGE} AS sidecar
COPY --from=build /rootfs/ /
# By number: `runAsNonRoot` cannot see through a name.
USER 65532:65532
ENTRYPOINT ["/opt/sidecar/sidecar"]
CMD ["--help"]
ARG VERSION=""
ARG REVISION=""
ARG SOURCE=""
ARG BASE_IMAGE
LABEL org.opencontainers.image.title="sidecar" \
      org.opencontainers.image.description="Exactly one scheduler: a container entrypoint with a lease in PostgreSQL" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
