# shellcheck shell=bash
# Debian packages for the test infrastructure: install them, fetch a kernel, copy kernel modules.
#
# Sourced by spec/testbed/setup, spec/guest/images/* and .ci/run, which run under `set -euo
# pipefail`. Every call to apt is bounded in time and quiet; when it fails, its last lines are
# printed with what was wanted, and the caller ends with status 3. Package lists are only refreshed
# when something asked for is not known or not to be had, so that a second run needs no network.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

give_up() {
  say "$*"
  exit 3
}

# as_root COMMAND [ARG...]: runs it as root, by sudo where that asks for no password.
as_root() {
  if [[ $EUID -eq 0 ]]; then
    "$@"
  elif sudo -n true 2>/dev/null; then
    sudo -n "$@"
  else
    say "needs root (and sudo asks for a password): $*"
    return 1
  fi
}

# apt_get ARG...: apt-get without questions; root for what changes the system, time-outs for all.
apt_get() {
  local root=as_root
  [[ $1 == download ]] && root=
  $root timeout 900 env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
    -o APT::Sandbox::User=root -o DPkg::Lock::Timeout=180 -o Acquire::Retries=2 "$@"
}

# try_apt WHAT COMMAND [ARG...]: runs it; if it fails, refreshes the package lists and runs it
# again.
try_apt() {
  local what=$1 log
  shift
  log=$(mktemp)
  if "$@" >"$log" 2>&1 || { apt_get update && "$@"; } >"$log" 2>&1; then
    rm -f "$log"
    return
  fi
  tail -n 8 "$log" >&2
  rm -f "$log"
  give_up "apt could not get $what (above: its last lines). Install by hand, or mend apt's sources."
}

# need_packages NAME...: installs those of them that are missing.
need_packages() {
  local name state missing=()
  for name in "$@"; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) || true
    [[ $state == installed ]] || missing+=("$name")
  done
  [[ ${#missing[@]} -eq 0 ]] && return
  say "installing Debian packages: ${missing[*]}"
  try_apt "${missing[*]}" apt_get install --no-install-recommends "${missing[@]}"
}

# kernel_release META: the release that a meta package (linux-image-amd64) stands for now.
kernel_release() {
  apt-cache depends "$1" 2>/dev/null |
    sed -n 's/^ *Depends: linux-image-\([0-9].*\)$/\1/p' | grep -m1 .
}

# unpack_kernel META FOLDER: downloads the kernel that META stands for, unpacks it into FOLDER
# without installing it, lists its modules' dependencies; its release is left in $kernel.
kernel=""
unpack_kernel() {
  try_apt "the release of $1" kernel_release "$1"
  kernel=$(kernel_release "$1")
  mkdir -p "$2"
  try_apt "linux-image-$kernel" download_into "$2" "linux-image-$kernel"
  dpkg -x "$2"/linux-image-*.deb "$2"
  rm -f "$2"/linux-image-*.deb
  # Debian 13 packages keep modules under /usr; depmod and modprobe look below /lib.
  [[ -d $2/lib/modules ]] || ln -s usr/lib "$2/lib"
  PATH=$PATH:/usr/sbin:/sbin depmod -b "$2" "$kernel"
}

download_into() (
  cd "$1" && rm -f linux-image-*.deb && apt_get download "$2"
)

# copy_modules TREE RELEASE TARGET MODULE...: copies each module and what it depends on to TARGET,
# uncompressed, with TARGET/order naming the files in the order to load. A module that this kernel
# has built in is none to copy; one it does not know at all is an error.
copy_modules() {
  local tree=$1 release=$2 target=$3 module kind path file
  shift 3
  mkdir -p "$target"
  : >"$target/order"
  for module in "$@"; do
    PATH=$PATH:/usr/sbin:/sbin modprobe -d "$tree" -S "$release" --show-depends "$module" |
      while read -r kind path _; do
        [[ $kind == insmod ]] || continue
        file=$(basename "$path" | sed 's/\.ko\..*/.ko/')
        grep -qx "$file" "$target/order" && continue
        case $path in
          *.xz) xz -dc "$path" >"$target/$file" ;;
          *.zst) zstd -qdc "$path" >"$target/$file" ;;
          *) cp "$path" "$target/$file" ;;
        esac
        echo "$file" >>"$target/order"
      done || give_up "kernel $release has no module $module"
  done
}

# pack_initramfs FOLDER FILE: a gzip'd cpio of FOLDER, with the device nodes an init needs first.
# The archive is the same for the same content: names sorted, no times, no inode numbers.
pack_initramfs() {
  find "$1" -exec touch -h -d @0 {} +
  (cd "$1" && find . -print0 | LC_ALL=C sort -z |
    cpio --quiet --null -o -H newc --reproducible -R 0:0) | gzip -n -1 >"$2"
}

# fingerprint FILE...: of the text of the recipes; another text means that results are made again.
fingerprint() {
  cat "$@" | sha256sum | cut -c1-16
}

# once FOLDER STAMP FUNCTION: runs FUNCTION (in a subshell) unless FOLDER/stamp already says STAMP.
# Two callers at once: the second waits, and then finds all done. What an interrupted one left is
# removed.
once() {
  local folder=$1 stamp=$2 lock
  [[ $(cat "$folder/stamp" 2>/dev/null) == "$stamp" ]] && return
  exec {lock}>"$folder/lock"
  flock -w 1800 "$lock" || give_up "another run has held $folder/lock for half an hour"
  if [[ $(cat "$folder/stamp" 2>/dev/null) != "$stamp" ]]; then
    say "making $folder"
    rm -rf "$folder"/making.*
    ("$3")
    echo "$stamp" >"$folder/stamp"
  fi
  exec {lock}>&-
}
