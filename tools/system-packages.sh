#!/usr/bin/env bash
# Install the Debian packages that the tests use: real peers, a packet decoder, namespaces, promtool, a browser, shells.
set -euo pipefail

declare -A package_of=(
    [ip]=iproute2 [nsenter]=util-linux [nft]=nftables [ucarp]=ucarp [tshark]=tshark
    [keepalived]=keepalived [ping]=iputils-ping [tcpdump]=tcpdump
    [promtool]=prometheus [chromium]=chromium [chromedriver]=chromium-driver
    [buildah]=buildah [runc]=runc [debootstrap]=debootstrap
    [zsh]=zsh [fish]=fish
)
PATH=$PATH:/usr/sbin:/sbin
missing=()
for program in "${!package_of[@]}"; do
    command -v "$program" >/dev/null || missing+=("${package_of[$program]}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed: ${missing[*]}; the tests that need them are skipped (as root on Debian they are installed)" >&2
    exit 0
fi
echo "installing ${missing[*]}"
apt-get update -qq
# RUNLEVEL: install the daemons' programs, start none of them.
RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
