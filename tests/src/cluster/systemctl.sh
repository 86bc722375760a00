#!/bin/sh
# Stands in for systemd inside a node: what kubeadm asks of it (start, stop, restart, is-active, enable of the kubelet),
# and an equivalent of Restart=always for each service.
#
# A service is an executable /run/bed/services/NAME. /run/services/NAME.keeper holds the process id of the loop that
# keeps it running, NAME.main that of the service itself; both die with the node's process namespace.
action=
service=
for argument in "$@"; do
  case $argument in
  -*) ;;
  *) if [ -z "$action" ]; then action=$argument; else service=${argument%.service}; fi ;;
  esac
done
state=/run/services/$service
log=/run/bed/log

alive() { [ -f "$1" ] && kill -0 "$(cat "$1")" 2> /dev/null; }

start() {
  alive "$state.keeper" && return
  setsid "$0" keep "$service" > /dev/null 2>&1 < /dev/null &
  echo $! > "$state.keeper"
}

keep() {
  while :; do
    "/run/bed/services/$service" >> "$log/$service.log" 2>&1 &
    echo $! > "$state.main"
    wait $!
    echo "systemctl: $service ended with code $?; starting it again in 1 s" >> "$log/$service.log"
    sleep 1
  done
}

stop() {
  # The keeper first, or it would start the service again.
  if alive "$state.keeper"; then kill "$(cat "$state.keeper")"; fi
  rm -f "$state.keeper"
  if alive "$state.main"; then
    kill "$(cat "$state.main")"
    attempts=0
    while alive "$state.main"; do
      attempts=$((attempts + 1))
      if [ "$attempts" -gt 100 ]; then kill -9 "$(cat "$state.main")"; break; fi
      sleep 0.1
    done
  fi
  rm -f "$state.main"
}

echo "$(date +%T) $*" >> "$log/systemctl.log"
case $action in
daemon-reload | status | reset-failed) exit 0 ;;
esac
if [ ! -x "/run/bed/services/$service" ]; then
  case $action in
  is-active | is-enabled) exit 3 ;;
  esac
  echo "unit $service.service not found" >&2
  exit 5
fi
case $action in
start) start ;;
stop) stop ;;
restart) stop && start ;;
keep) keep ;;
is-active) if alive "$state.main"; then echo active; else echo inactive; exit 3; fi ;;
is-enabled) grep -qx "$service" /run/bed/enabled || exit 1; echo enabled ;;
enable) grep -qx "$service" /run/bed/enabled || echo "$service" >> /run/bed/enabled ;;
disable) sed -i "/^$service\$/d" /run/bed/enabled ;;
*) echo "systemctl stand-in: unknown action $action" >&2; exit 1 ;;
esac
