#!/bin/sh
# Process 1 of a machine made of namespaces: its own network, processes, users, /etc, /opt, /var, homes and sshd, with the
# system's programs below. Started by namespaces.mjs inside `unshare`; what it writes lies in DIR and outlives a reboot.
# usage: machine.sh DIR NAME ADDRESS/BITS systemd|sshd [HIDDEN FOLDER [SHOWN FOLDER]]; the latter is seen as /srv/minikeep
set -eu
dir=$1 name=$2 address=$3 init=$4 hidden=${5:-} shown=${6:-}
# Held open: wherever it lies, it may be hidden below.
[ -z "$shown" ] || exec 9<"$shown"

mount --make-rprivate /
mount -t proc proc /proc
hostname "$name"

# The first boot: what a machine fresh from its box has.
if [ ! -d "$dir/etc" ]; then
  cp -a /etc "$dir/etc"
  rm -rf "$dir/etc/minikeep" "$dir/etc/systemd/system"
  mkdir -p "$dir/etc/systemd/system" "$dir/opt" "$dir/root" "$dir/home" "$dir/var-lib" "$dir/var-log" "$dir/local-bin"
  mkdir -m 700 "$dir/root/.ssh"
  cp "$dir/../operator.pub" "$dir/root/.ssh/authorized_keys"
  cat >"$dir/etc/sshd-minikeep" <<TEXT
HostKey $dir/host-key
AuthorizedKeysFile .ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
MaxStartups 50
TEXT
  echo "$name" >"$dir/etc/hostname"
  # Only what a node needs of a system: nothing of this machine's own services is started or changed.
  cd "$dir/etc/systemd/system"
  for unit in systemd-sysctl systemd-modules-load systemd-binfmt systemd-remount-fs systemd-update-utmp \
    systemd-random-seed systemd-udevd systemd-udev-trigger systemd-networkd systemd-timesyncd systemd-journal-flush \
    systemd-tmpfiles-setup-dev systemd-hwdb-update systemd-firstboot systemd-sysusers kmod-static-nodes \
    ldconfig networking console-getty; do ln -s /dev/null "$unit.service"; done
  for unit in dev-hugepages.mount dev-mqueue.mount proc-sys-fs-binfmt_misc.automount sys-fs-fuse-connections.mount \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount swap.target; do ln -s /dev/null "$unit"; done
  cat >machine.target <<TEXT
[Unit]
Requires=multi-user.target
After=multi-user.target
AllowIsolate=yes
TEXT
  cat >sshd-minikeep.service <<TEXT
[Service]
ExecStartPre=/bin/mkdir -p /run/sshd
ExecStart=/usr/sbin/sshd -D -f /etc/sshd-minikeep
KillMode=process
TEXT
  mkdir -p multi-user.target.wants
  ln -s ../sshd-minikeep.service multi-user.target.wants/sshd-minikeep.service
  cd /
fi
# Before anything below hides where it lies.
mount -t tmpfs -o mode=0755 tmpfs /run
install -m 600 "$dir/host-key" /run/host-key
sed -i "s|^HostKey .*|HostKey /run/host-key|" "$dir/etc/sshd-minikeep"
mount --bind "$dir/etc" /etc
mount --bind "$dir/opt" /opt
mount --bind "$dir/root" /root
mount --bind "$dir/home" /home
mount --bind "$dir/var-lib" /var/lib
mount --bind "$dir/var-log" /var/log
mount --bind "$dir/local-bin" /usr/local/bin
# Proof that nothing of the repository is used: it isn't there.
[ -z "$hidden" ] || mount -t tmpfs tmpfs "$hidden"
mount -t tmpfs -o mode=1777 tmpfs /tmp
if [ -n "$shown" ]; then
  mount -t tmpfs -o mode=0755 tmpfs /srv
  mkdir /srv/minikeep
  # As it is: its path may name nothing any more.
  mount --no-canonicalize --bind /proc/self/fd/9 /srv/minikeep
  exec 9<&-
fi

until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip link set lo up
ip address add "$address" dev eth0
ip link set eth0 up
# Multicast finds its way where no route leads out.
ip route add 224.0.0.0/4 dev eth0

if [ "$init" = systemd ]; then
  mount -t tmpfs -o mode=0755 tmpfs /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  exec env -i container=minikeep PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=machine.target --log-target=console --show-status=no
fi
mkdir -p /run/sshd
[ ! -x /etc/at-boot ] || /etc/at-boot >/var/log/at-boot.log 2>&1 &
/usr/sbin/sshd -f /etc/sshd-minikeep
# Whose parents have ended are ours to bury.
trap 'exit 0' TERM
while :; do sleep 3600 & wait $! || :; done
