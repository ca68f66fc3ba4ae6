#!/usr/bin/env bash
# Makes the default guest again, byte for byte: kernel, init, agent, root file system.
#
#   guest/build.sh             build, compare with images/manifest.json, say whether they are identical (status 1: no)
#   guest/build.sh --update    build, and make the results the new images and manifest
#
# Everything comes from Debian 12 packages; those missing are installed if this runs as root, otherwise named.
# Works in ${XDG_CACHE_HOME:-~/.cache}/estalo/guest-build; a kernel whose source, patches and configuration have not
# changed is not built again (--clean: it is).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${XDG_CACHE_HOME:-$HOME/.cache}/estalo/guest-build
update='' clean=''
for argument in "$@"; do
  case $argument in
    --update) update=--update ;;
    --clean) clean=yes ;;
    *) sed -n '2,9p' "$0" >&2; exit 2 ;;
  esac
done

packages=(linux-source-6.1 gcc make flex bison bc libelf-dev libc6-dev xz-utils patch musl-tools busybox-static
  erofs-utils)

# Nothing of the builder may show in the results.
export LC_ALL=C TZ=UTC SOURCE_DATE_EPOCH=0
export KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' KBUILD_BUILD_USER=estalo
export KBUILD_BUILD_HOST=estalo KBUILD_BUILD_VERSION=1
umask 022
say() { printf 'guest: %s\n' "$*"; }

require_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  say "Debian packages missing: ${missing[*]}"
  if ((EUID != 0)); then
    say "install them: sudo apt-get install --no-install-recommends ${missing[*]}"
    exit 3
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# What the kernel is made from, as one hash.
kernel_inputs() {
  { dpkg-query -W linux-source-6.1 gcc-12 binutils; cat "$here/kernel/config" "$here"/kernel/patches/*.patch; } | sha256sum
}

build_kernel() {
  local tree=$work/linux
  if [[ ! $clean && -s $work/vmlinux && $(cat "$work/kernel.inputs" 2>/dev/null) == "$(kernel_inputs)" ]]; then
    say 'kernel: unchanged'
    return
  fi
  say "kernel: unpacking and patching ($tree)"
  rm -rf "$tree"
  mkdir -p "$tree"
  tar -xf /usr/src/linux-source-6.1.tar.xz -C "$tree" --strip-components=1
  local file
  for file in "$here"/kernel/patches/*.patch; do
    patch -d "$tree" -p1 -s --no-backup-if-mismatch <"$file"
  done
  KCONFIG_ALLCONFIG=$here/kernel/config make -s -C "$tree" allnoconfig
  check_config "$tree/.config"
  say "kernel: compiling on $(nproc) processors"
  make -s -C "$tree" -j"$(nproc)" vmlinux
  cp "$tree/System.map" "$work/System.map"
  strip -s -o "$work/vmlinux" "$tree/vmlinux"
  kernel_inputs >"$work/kernel.inputs"
}

# An option that Kconfig dropped because something it needs is off would otherwise go unnoticed.
check_config() {
  local option lost=0
  while read -r option; do
    grep -qxF "$option" "$1" || { say "kernel: not taken: $option"; lost=1; }
  done < <(grep -E '^CONFIG_[A-Z0-9_]+=([^n]|n.)' "$here/kernel/config")
  return "$lost"
}

# build_program NAME FOLDER: a static program of all that is in the folder.
build_program() {
  musl-gcc -std=gnu11 -Os -Wall -Wextra -Wshadow -Werror -Wno-unused-result -ffile-prefix-map="$here/="  \
    -ffunction-sections -Wl,--gc-sections -Wl,--build-id=none -static -s -o "$work/$1" "$here/$2"/*.c
}

build_rootfs() {
  local root=$work/root applet
  rm -rf "$root"
  mkdir -p "$root"/{bin,sbin,usr/{bin,sbin,local/{bin,sbin}},dev,proc,sys,run,tmp,mnt,root,home,etc,var/log}
  ln -s ../run "$root/var/run"
  ln -s ../tmp "$root/var/tmp"
  cp -r "$here"/rootfs/. "$root"
  ln -s /proc/net/pnp "$root/etc/resolv.conf"
  install -m 755 /bin/busybox "$root/bin/busybox"
  install -m 755 "$work/init" "$root/sbin/init"
  install -m 755 "$work/estalo-agent" "$root/sbin/estalo-agent"
  while read -r applet; do
    [[ $applet == linuxrc || -e $root/$applet || -L $root/$applet ]] && continue
    mkdir -p "$root/$(dirname "$applet")"
    ln -s /bin/busybox "$root/$applet"
  done < <(/bin/busybox --list-full)
  chmod -R u=rwX,go=rX "$root"
  chmod 1777 "$root/tmp"
  chmod 700 "$root/root"
  rm -f "$work/rootfs.erofs"
  mkfs.erofs -T 0 -U 00000000-0000-0000-0000-000000000000 --all-root -x-1 --quiet "$work/rootfs.erofs" "$root"
}

mkdir -p "$work"
require_packages
build_kernel
build_program init init
build_program estalo-agent agent
build_rootfs
ESTALO_GUEST_WORK=$work node "$here/pack.mjs" $update
