#!/bin/sh
# Installs minikeep from a bundle. Needs sh, tar, gzip and sha256sum or shasum: no Node, no npm, no network.
# The archive's digest is checked before anything is unpacked, every file's before anything is switched over, and the
# new version becomes the current one by a single rename: whatever goes wrong before that leaves all as it was.
set -u
umask 022
LC_ALL=C
export LC_ALL
unset CDPATH NODE_OPTIONS

usage() {
  cat <<'TEXT'
usage: sh install.sh ARCHIVE --digest SHA256 [--prefix DIR] [--bin DIR] [--stage]
  --digest  what `minikeep bundle` printed when it made the archive (64 hex digits); get it another way than the archive
  --prefix  where to install (default: /opt/minikeep for root, else ~/.local/opt/minikeep)
  --bin     where to put the command (default: /usr/local/bin for root, else ~/.local/bin)
  --stage   unpack and check it, but leave the current version the current one; the same line without it switches over
TEXT
}

# fail CODE MESSAGE NEXT [STATUS]
fail() {
  printf 'error install.%s: %s\n  next: %s\n' "$1" "$2" "$3" >&2
  exit "${4:-1}"
}

archive='' digest='' prefix='' bin='' stage=''
while [ $# -gt 0 ]; do
  case $1 in
    --digest | --prefix | --bin)
      [ $# -ge 2 ] || fail usage "$1 needs a value" 'sh install.sh --help' 2
      case $1 in
        --digest) digest=$2 ;;
        --prefix) prefix=$2 ;;
        --bin) bin=$2 ;;
      esac
      shift 2 ;;
    --stage) stage=1; shift ;;
    -h | --help) usage; exit 0 ;;
    -*) fail usage "there is no option $1" 'sh install.sh --help' 2 ;;
    *)
      [ -z "$archive" ] || fail usage "more than one archive: $archive, $1" 'sh install.sh --help' 2
      archive=$1
      shift ;;
  esac
done
again="sh $0 ${archive:-ARCHIVE} --digest ${digest:-SHA256}${prefix:+ --prefix $prefix}${bin:+ --bin $bin}"
[ -n "$archive" ] || fail usage 'no archive is named' 'sh install.sh --help' 2
digest=$(printf %s "$digest" | tr A-F a-f)
case $digest in
  '') fail usage '--digest is missing: a digest inside the archive would prove nothing' \
    'give the digest that `minikeep bundle` printed: sh install.sh ARCHIVE --digest SHA256' 2 ;;
  *[!0-9a-f]*) fail usage 'the digest is not 64 hex digits' 'give what `minikeep bundle` printed' 2 ;;
esac
[ ${#digest} -eq 64 ] || fail usage 'the digest is not 64 hex digits' 'give what `minikeep bundle` printed' 2
[ -f "$archive" ] || fail no_archive "there is no file $archive" 'name the archive that `minikeep bundle` made'
[ -r "$archive" ] || fail no_permission "$archive may not be read" "sudo $again"
case $archive in /*) ;; *) archive=$PWD/$archive ;; esac

if [ "$(id -u)" = 0 ]; then
  prefix=${prefix:-/opt/minikeep} bin=${bin:-/usr/local/bin}
else
  [ -n "${HOME:-}" ] || [ -n "$prefix" ] && [ -n "$bin$prefix" ] || \
    fail usage 'HOME is not set' 'give --prefix and --bin' 2
  prefix=${prefix:-${HOME:-}/.local/opt/minikeep} bin=${bin:-${HOME:-}/.local/bin}
fi
case $prefix in /*) ;; *) prefix=$PWD/$prefix ;; esac
case $bin in /*) ;; *) bin=$PWD/$bin ;; esac

if command -v sha256sum >/dev/null 2>&1; then
  sha256() { sha256sum "$@"; }
elif command -v shasum >/dev/null 2>&1; then
  sha256() { shasum -a 256 "$@"; }
else
  fail no_tool 'neither sha256sum nor shasum is here' 'install coreutils (Linux) or run it with the PATH of macOS'
fi
command -v tar >/dev/null 2>&1 || fail no_tool 'tar is not here' 'install tar'
# bsdtar reads gzip by itself; GNU tar starts gzip. Each has its own way to stop after the first match.
case $(tar --version 2>/dev/null) in
  *GNU*)
    command -v gzip >/dev/null 2>&1 || fail no_tool 'gzip is not here' 'install gzip'
    first_only=--occurrence=1 ;;
  *bsdtar*) first_only=-q ;;
  *) first_only= ;;
esac

printf 'checking %s …\n' "$archive" >&2
got=$(sha256 <"$archive") || fail unreadable "$archive could not be read to its end" 'copy it again, or try another disk'
got=${got%% *}
[ "$got" = "$digest" ] || fail digest \
  "$archive has the digest $got, not $digest: it is damaged, cut short, or another archive" \
  'copy it again, and compare with what `minikeep bundle` printed'

# shellcheck disable=SC2086 # no option is no argument
facts=$(tar $first_only -xzOf "$archive" minikeep/BUNDLE 2>/dev/null)
format='' version='' platform='' bytes='' files=''
while IFS='=' read -r key value; do
  case $key in
    format) format=$value ;;
    version) version=$value ;;
    platform) platform=$value ;;
    bytes) bytes=$value ;;
    files) files=$value ;;
  esac
done <<TEXT
$facts
TEXT
[ "$format" = 1 ] || fail not_a_bundle "$archive is not a bundle that this script knows" \
  'use the install.sh that lies in the bundle'
case $version$platform in *[!0-9A-Za-z.+-]*) fail not_a_bundle "$archive says odd things about itself" 'make the bundle again' ;; esac
case $bytes$files in '' | *[!0-9]*) fail not_a_bundle "$archive says odd things about itself" 'make the bundle again' ;; esac

case "$(uname -s)-$(uname -m)" in
  Linux-x86_64) here=linux-x64 ;;
  Darwin-arm64) here=darwin-arm64 ;;
  *) here=$(uname -s)-$(uname -m) ;;
esac
[ "$here" = "$platform" ] || fail wrong_platform "this bundle is for $platform, this machine is $here" \
  "minikeep bundle FILE --platform $here (there are bundles for linux-x64 and darwin-arm64)"

made_prefix=
work=
clean() {
  [ -z "$work" ] || rm -rf "$work"
  [ -z "$made_prefix" ] || rmdir "$prefix/versions" "$prefix" 2>/dev/null
}
trap 'clean' EXIT
trap 'fail interrupted "interrupted" "$again" 130' INT TERM HUP

[ -d "$prefix" ] || made_prefix=1
mkdir -p "$prefix/versions" 2>/dev/null && [ -w "$prefix" ] && [ -w "$prefix/versions" ] || \
  fail no_permission "$prefix may not be written" "sudo $again   (or: --prefix DIR --bin DIR, folders of your own)"

# What an installation that was killed left behind. One that still runs has a living process.
for left in "$prefix"/versions/.new-* "$prefix"/versions/.old-*; do
  [ -e "$left" ] || continue
  pid=${left##*-}
  case $pid in *[!0-9]*) continue ;; esac
  if [ "$pid" != $$ ] && kill -0 "$pid" 2>/dev/null; then
    fail busy "another installation into $prefix is running (process $pid)" "wait for it, then: $again"
  fi
  rm -rf "$left"
done

name=$version-$platform-$(printf %.12s "$digest")
target=$prefix/versions/$name
# sound FOLDER: every file of the list has its digest. The first one that has not is in $bad.
sound() {
  bad='SHA256SUMS is missing'
  [ -f "$1/SHA256SUMS" ] || return 1
  if report=$(cd "$1" && sha256 -c SHA256SUMS 2>/dev/null); then return 0; fi
  bad=$(printf '%s\n' "$report" | while IFS= read -r line; do
    case $line in *': OK') ;; *) printf '%s' "$line"; break ;; esac
  done)
  return 1
}

if [ -d "$target" ] && sound "$target"; then
  printf 'minikeep %s is already in %s, every file sound\n' "$version" "$target" >&2
else
  # 5 % and 16 MiB more than the files: blocks and folders.
  need=$((bytes / 1024 * 21 / 20 + 16384))
  free=$(df -Pk "$prefix/versions" 2>/dev/null | { read -r _; read -r _ _ _ free _; printf %s "$free"; })
  case $free in
    '' | *[!0-9]*) ;;
    *) [ "$free" -ge "$need" ] || fail no_space \
      "$prefix has $((free / 1024)) MiB free, $((need / 1024)) MiB are needed" \
      "free space there, or install elsewhere: $again --prefix DIR" ;;
  esac
  work=$prefix/versions/.new-$$
  mkdir "$work" || fail no_permission "$work could not be made" "sudo $again"
  printf 'unpacking %s files …\n' "$files" >&2
  if ! said=$(tar -xzf "$archive" -C "$work" 2>&1); then
    case $said in
      *'o space left'* | *'uota exceeded'*) fail no_space "the disk of $prefix is full" \
        "free space there, or install elsewhere: $again --prefix DIR" ;;
      *) fail unpack "the archive could not be unpacked: $(printf '%s' "$said" | head -n 1)" "$again" ;;
    esac
  fi
  new=$work/minikeep
  printf 'checking every file …\n' >&2
  sound "$new" || fail file "the files unpacked are not those that were packed ($bad)" \
    "check this machine's disk and memory, then: $again"
  listed=$(wc -l <"$new/SHA256SUMS")
  [ $((listed + 1)) -eq "$files" ] || fail file "the list names $listed files, the bundle has $files" 'make the bundle again'
  chmod 0755 "$work" "$new"
  said=$("$new/bin/minikeep" --version 2>&1) || said="it said: ${said:-nothing}"
  [ "$said" = "$version" ] || fail start "the bundled program does not start on this machine ($(printf '%s' "$said" | head -n 1))" \
    'Linux needs glibc 2.28 or newer, macOS must be 14 or newer, and the disk must allow programs (no noexec)'
  if [ -e "$target" ]; then
    mv "$target" "$prefix/versions/.old-$$" || fail no_permission "$target could not be replaced" "sudo $again"
  fi
  mv "$new" "$target" || fail no_permission "$target could not be made" "sudo $again"
  rm -rf "$prefix/versions/.old-$$"
fi

if [ -n "$stage" ]; then
  made_prefix=
  printf 'minikeep %s lies ready in %s\n' "$version" "$target"
  exit 0
fi

# link TARGET PATH: makes or replaces a link by one rename. The bundled Node does it: mv differs between systems.
link() {
  rm -f "$2.new-$$"
  ln -s "$1" "$2.new-$$" 2>/dev/null && "$target/node/bin/node" -e \
    'require("node:fs").renameSync(process.argv[1], process.argv[2])' "$2.new-$$" "$2" 2>/dev/null && return 0
  rm -f "$2.new-$$"
  return 1
}
before=$(readlink "$prefix/current" 2>/dev/null)
mkdir -p "$prefix/bin" && link ../current/bin/minikeep "$prefix/bin/minikeep" && \
  link "versions/$name" "$prefix/current" || \
  fail no_permission "the links in $prefix could not be made" "sudo $again"
made_prefix=

printf 'installed minikeep %s in %s\n' "$version" "$target"
[ -z "$before" ] || [ "$before" = "versions/$name" ] || \
  printf 'the version before is still there: %s/%s\n' "$prefix" "$before"
if [ -e "$bin/minikeep" ] && [ "$(readlink "$bin/minikeep" 2>/dev/null)" != "$prefix/bin/minikeep" ]; then
  printf '%s is another program and stays as it is. Start minikeep as: %s\n' "$bin/minikeep" "$prefix/bin/minikeep"
elif mkdir -p "$bin" 2>/dev/null && link "$prefix/bin/minikeep" "$bin/minikeep"; then
  case :${PATH:-}: in
    *":$bin:"*) printf 'start it as: minikeep\n' ;;
    *) printf 'start it as: %s (that folder is not on your PATH)\n' "$bin/minikeep" ;;
  esac
else
  printf '%s may not be written. Start minikeep as: %s\n' "$bin" "$prefix/bin/minikeep"
fi
printf 'next: minikeep doctor\n'
