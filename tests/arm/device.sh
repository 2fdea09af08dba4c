#!/usr/bin/env bash
# An emulated 64-bit Arm device: Debian 12 under qemu's user mode, with sshd on the loopback. For root, on Debian.
#   device.sh make DIR            build it, with Python 3.11, NumPy, OpenCV and ONNX Runtime
#   device.sh start DIR [PORT]    start its sshd on 127.0.0.1:PORT (2222); print options for bakit bench
#   device.sh run DIR COMMAND...  run a command inside
#   device.sh stop DIR            stop sshd and unmount
# QEMU_CPU chooses the core: cortex-a57 (Jetson Nano), cortex-a72 (Raspberry Pi 4), max (dot product, i8mm, SVE).
# ONNX Runtime 1.22.1: later releases crash under qemu 7.2, and 1.18 does not start; LiteRT and OpenVINO crash, too.
set -euo pipefail
verb=$1
dir=$(realpath -m "$2")
root=$dir/root
packages="numpy opencv-python-headless onnxruntime==1.22.1 flatbuffers protobuf packaging click msgspec rich typing_extensions"

enter() {
  for place in proc dev sys; do
    mountpoint -q "$root/$place" || mount --bind "/$place" "$root/$place"
  done
}

register() {
  mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
  [ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] && return
  local magic='\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  local mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  printf ':qemu-aarch64:M::%s:%s:/usr/bin/qemu-aarch64-static:OCF' "$magic" "$mask" > /proc/sys/fs/binfmt_misc/register
}

case $verb in
make)
  apt-get install -y -q qemu-user-static debootstrap openssh-client
  register
  mkdir -p "$root/opt/site"
  wheels=(--only-binary=:all: --no-deps --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none)
  for glibc in 2_17 2_27 2_28 2_31 2_34 2_36; do
    wheels+=(--platform "manylinux_${glibc}_aarch64")
  done
  # shellcheck disable=SC2086  # a list of packages
  "${PYTHON:-python3}" -m pip install --quiet --target "$root/opt/site" "${wheels[@]}" --platform manylinux2014_aarch64 $packages
  debootstrap --arch=arm64 --variant=minbase --include=python3,openssh-server,ca-certificates bookworm "$root"
  echo /opt/site > "$root/usr/lib/python3/dist-packages/site-extra.pth"
  chroot "$root" useradd -m -s /bin/bash edge
  mkdir -p "$root/home/edge/.ssh" "$root/run/sshd"
  chroot "$root" ssh-keygen -A
  ssh-keygen -q -t ed25519 -N '' -f "$dir/key"
  cp "$dir/key.pub" "$root/home/edge/.ssh/authorized_keys"
  chroot "$root" sh -c 'chown -R edge:edge /home/edge/.ssh; chmod 700 /home/edge/.ssh'
  enter
  chroot "$root" python3 -c 'import platform, numpy, onnxruntime; print(platform.machine(), onnxruntime.__version__)'
  touch "$dir/made" ;;
start)
  enter
  mkdir -p "$root/run/sshd"
  port=${3:-2222}
  chroot "$root" /usr/sbin/sshd -D -p "$port" -o ListenAddress=127.0.0.1 > "$dir/sshd.log" 2>&1 &
  echo $! > "$dir/sshd.pid"
  echo "--host edge@127.0.0.1 --ssh-port $port --identity $dir/key" \
    "--ssh-option UserKnownHostsFile=$dir/known_hosts --ssh-option StrictHostKeyChecking=accept-new" ;;
run)
  enter
  shift 2
  chroot "$root" "$@" ;;
stop)
  [ ! -e "$dir/sshd.pid" ] || kill "$(cat "$dir/sshd.pid")" || true
  rm -f "$dir/sshd.pid"
  for place in sys dev proc; do
    ! mountpoint -q "$root/$place" || umount -l "$root/$place"
  done ;;
*)
  echo "device.sh make|start|run|stop DIR" >&2
  exit 2 ;;
esac
