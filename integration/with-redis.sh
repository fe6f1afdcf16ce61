#!/usr/bin/env bash
# Runs a command beside a Redis server that keeps every write, and that ends with
# it. HOLDFAST_TEST_REDIS is its address.
set -euo pipefail
dir=$(mktemp -d)
server=
finish() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$dir"
}
trap finish EXIT
for _ in $(seq 20); do
  port=$((20000 + RANDOM % 20000))
  redis-server --port "$port" --bind 127.0.0.1 --dir "$dir" --save "" --appendonly yes --appendfsync everysec >"$dir/log" 2>&1 &
  server=$!
  for _ in $(seq 100); do
    if redis-cli -p "$port" ping 2>/dev/null | grep -q PONG && kill -0 "$server" 2>/dev/null; then
      export HOLDFAST_TEST_REDIS="redis://127.0.0.1:$port"
      "$@"
      exit
    fi
    kill -0 "$server" 2>/dev/null || break # somebody has the port
    sleep 0.1
  done
done
echo "redis-server does not start:" >&2
cat "$dir/log" >&2
exit 1
