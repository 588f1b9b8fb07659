# What the parts of `make test-deploy` share; sourced, never run. A part calls ok, bad or skip for everything it tried and
# closes with `finish`, whose line scripts/test counts. Needs scripts/lib.sh.

passed=0 failed=0 skipped=0
ok() { ((passed += 1)); printf 'ok   %s\n' "$*"; }
bad() { ((failed += 1)); printf 'FAIL %s\n' "$*"; }
skip() { ((skipped += 1)); printf 'skip %s\n' "$*"; }
# try WHAT COMMAND...: ok when the command succeeds, else bad with the end of what it printed.
try() {
    local what=$1 output
    shift
    if output=$("$@" 2>&1); then ok "$what"; else
        bad "$what"
        tail -n 15 <<<"$output" | sed 's/^/       /'
    fi
}
# refuse WHAT PATTERN COMMAND...: ok when the command fails and prints the (extended) pattern.
refuse() {
    local what=$1 pattern=$2 output
    shift 2
    if output=$("$@" 2>&1); then bad "$what: accepted"; elif grep -qE -- "$pattern" <<<"$output"; then ok "$what"; else
        bad "$what: refused, but without /$pattern/"
        tail -n 15 <<<"$output" | sed 's/^/       /'
    fi
}
# went CODE MILLISECONDS LOG: whether a sidecar around Airflow's scheduler that was told to go ended as it may: with 0. Airflow 3's
# LocalExecutor now and then does not end although it was told to; the sidecar then kills, which is 82, but not before the 30 s
# of --grace have passed, and not without saying so.
went() {
    local may=0
    ((${2:-0} < 30000)) || ! grep -qF 'still running after the grace period' <<<"$3" || may=82
    [[ $1 == "$may" ]]
}
finish() {
    echo "$1: $passed passed, $failed failed, $skipped skipped"
    exit $((failed > 0))
}

# The tools that come from PyPI, in a virtual environment of their own, each in the version that tools.txt names: a newer one with
# a new rule is no fault of ours.
TOOLS=$CACHE/deploy-tools
pip_tools() {
    [[ -x $TOOLS/bin/python ]] || python3 -m venv "$TOOLS" || die "cannot make a virtual environment in $TOOLS"
    "$TOOLS/bin/pip" install --quiet --disable-pip-version-check --retries 10 --constraint "$ROOT/Tests/Deploy/tools.txt" "$@" ||
        die "pip cannot install $*"
}

# Finds the container engine and makes it work where it does not by itself: sets ENGINE, or says why there is none and returns 1.
# Where resource limits may not be raised, and with mixed cgroups, podman's defaults fail; the file helps, and only then is used.
engine() {
    command -v podman >/dev/null || { echo "podman is not installed"; return 1; }
    ENGINE=podman
    stand_in debian:bookworm-slim || return
    podman run --rm docker.io/library/debian:bookworm-slim true 2>/dev/null && return
    CONTAINERS_CONF=$CACHE/containers.conf
    export CONTAINERS_CONF
    printf '[containers]\ndefault_ulimits = []\n[engine]\nruntime = "runc"\n' >"$CONTAINERS_CONF"
    podman run --rm docker.io/library/debian:bookworm-slim true && return
    echo "podman cannot run a container here"
    return 1
}

# stand_in IMAGE: makes sure that docker.io's IMAGE is here: as it is, pulled, or, where no registry can be reached, a stand-in
# built from Debian's (or PyPI's) packages, which says so in its label `stand-in`. A pass with a stand-in proves our files,
# not the upstream image.
stand_in() {
    local image=$1 name=docker.io/$1 recipe
    [[ $1 == */* ]] || name=docker.io/library/$1
    podman image exists "$name" && return
    timeout 600 podman pull --quiet "$name" >/dev/null 2>&1 && return
    echo "stand-in: no registry has $image for us; building one from Debian's packages"
    if [[ $image == debian:* ]]; then
        local root
        root=$(mktemp -d)
        debootstrap --variant=minbase --include=ca-certificates "$(sed 's/debian:\([a-z]*\).*/\1/' <<<"$image")" "$root" \
            >"$root.log" 2>&1 || { tail -n 5 "$root.log"; return 1; }
        tar -C "$root" -c . | podman import --quiet --change 'LABEL stand-in=debootstrap' - "$name" >/dev/null
        rm -rf "$root" "$root.log"
        return
    fi
    # stand-ins/NAME.Dockerfile for NAME:TAG and OWNER/NAME:TAG, with TAG as its argument.
    recipe=$ROOT/Tests/Deploy/stand-ins/$(basename "${image%%:*}").Dockerfile
    [[ -f $recipe ]] || { echo "no stand-in for $image: $recipe is missing"; return 1; }
    stand_in debian:bookworm-slim || return
    build "$name" --label stand-in=true --build-arg "TAG=${image#*:}" --file "$recipe" "$ROOT/Tests/Deploy/stand-ins"
}

# not_published IMAGE...: says which of these images, of docker.io, were a stand-in here; `stand_in` is silent where it is built
# already. So was one that somebody imported here without that label: a registry gives no such image.
not_published() {
    local image name
    for image; do
        name=docker.io/$image
        [[ $image == */* ]] || name=docker.io/library/$image
        [[ -z $(podman image inspect --format '{{if .Labels}}{{index .Labels "stand-in"}}{{end}}' "$name" 2>/dev/null) &&
            $(podman image inspect --format '{{.Comment}}' "$name" 2>/dev/null) != 'imported from tarball' ]] ||
            skip "the same with the published $image: no registry answers; a stand-in of the same name was used"
    done
}

# build NAME ARG...: podman build with what it takes here, tagged as NAME. pip, apt and git in a build need the host's idea of
# whom to trust and whom to ask, and to ask again; mounted, so that none of it is in a Dockerfile or an image.
build() {
    local name=$1 certificates=/etc/ssl/certs/ca-certificates.crt files=$CACHE/build options
    shift
    mkdir -p "$files"
    printf '[global]\nretries = 10\n' >"$files/pip.conf"
    printf 'Acquire::Retries "5";\n' >"$files/apt.conf"
    git config --null --get-regexp '^url\..*\.insteadof$' | git_configuration >"$files/gitconfig"
    options=(--volume "$files/gitconfig:/etc/gitconfig:ro" --volume "$files/pip.conf:/etc/pip.conf:ro"
        --volume "$files/apt.conf:/etc/apt/apt.conf.d/80-retries:ro")
    if [[ -f $certificates ]]; then
        printf 'cert = %s\n' "$certificates" >>"$files/pip.conf"
        options+=(--volume "$certificates:$certificates:ro")
    fi
    podman build --quiet --layers --network host "${options[@]}" --tag "$name" "$@" >/dev/null
}

# From `git config --null`, each rewriting of an address to a folder of the host, as a configuration file.
git_configuration() {
    local entry key
    while IFS= read -r -d '' entry; do
        key=${entry%%$'\n'*} key=${key#url.} key=${key%.insteadof}
        [[ $key == /* ]] && printf '[url "%s"]\n\tinsteadOf = %s\n' "$key" "${entry#*$'\n'}"
    done
    printf '[safe]\n\tdirectory = *\n'
}

# The images of this checkout: two that are tested on one machine at once must not take each other's.
TAG=test-$(cksum <<<"$ROOT" | cut -d ' ' -f 1)
export TAG
# sidecar_image [TARGET [ARG...]]: builds a target of the Dockerfile, by default `sidecar`, as localhost/TARGET:$TAG. What has
# not changed since the last time comes from podman's layers: minutes the first time, seconds later.
sidecar_image() {
    local target=${1:-sidecar} mounts=() swift=docker.io/library/swift:6.3-bookworm folder
    shift $(($# > 0))
    stand_in debian:bookworm-slim && stand_in swift:6.3-bookworm || return
    if [[ -n $(podman image inspect --format '{{index .Labels "stand-in"}}' "$swift") ]]; then
        folder=$(dirname "$(dirname "$(dirname "$(readlink -f "$(command -v swift)")")")")
        mounts=(--volume "$folder:/opt/toolchain:ro")
        for folder in $(git config --null --get-regexp '^url\..*\.insteadof$' | git_configuration |
            sed -n 's/^\[url "\(.*\)"\]$/\1/p' | sort -u); do
            mounts+=(--volume "$folder:$folder:ro")
        done
    fi
    build "localhost/$target:$TAG" --target "$target" "${mounts[@]}" "$@" "$ROOT"
}
