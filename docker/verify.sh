#!/usr/bin/env bash
# Tests the deployment end to end: checks the files, builds the images, starts everything without a GPU, sends real
# clips, runs every query of every dashboard, compares the counters with the responses, and stops during a request.
#   make docker-verify
# Needs a Docker engine (DOCKER_HOST as usual), docker compose or docker-compose, promtool and curl. Stops everything
# that it started.
#   CLIPS="a.mp4 b.mp4"   clips to send; those of samples/ if unset
#   LOAD_SECONDS=90       duration of the load; a dashboard looks back one minute
#   GPU_IMAGE=1           also build image serve-gpu (3 GB) and load its libraries
#   TRAIN_IMAGE=1         also build image train (6 GB), train on the clips for two epochs and export the model
#   CHECK='commands'      commands to run after the load, while everything is up
set -euo pipefail
cd "$(dirname "$0")/.."

read -ra CLIPS <<<"${CLIPS:-$(echo samples/*.mp4)}"
LOAD_SECONDS=${LOAD_SECONDS:-90}
PYTHON_IMAGE=${PYTHON_IMAGE:-python:3.11-slim-bookworm}
export ADAFOCUS_CPU_IMAGE=${ADAFOCUS_CPU_IMAGE:-adafocus:cpu} ADAFOCUS_GPU_IMAGE=${ADAFOCUS_GPU_IMAGE:-adafocus:gpu}
export ADAFOCUS_PUBLISH=127.0.0.1:18000 PROMETHEUS_PUBLISH=127.0.0.1:19090 GRAFANA_PUBLISH=127.0.0.1:13000
export ADAFOCUS_CAMERAS_PUBLISH=127.0.0.1:18001
export SERVICE=http://$ADAFOCUS_PUBLISH PROMETHEUS=http://$PROMETHEUS_PUBLISH GRAFANA=http://$GRAFANA_PUBLISH
export GRAFANA_ADMIN_PASSWORD=docker-verify
export DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1
WORK=build/docker-verify TOOLS=build/docker-verify/venv/bin CHECK_OUTPUT="python3 docker/verify/check_output.py"
CPU=(-f docker-compose.yml -f docker/compose.cpu.yml -f docker/compose.cameras.yml)

if docker compose version >/dev/null 2>&1; then COMPOSE=(docker compose); else COMPOSE=(docker-compose); fi
compose() { "${COMPOSE[@]}" -p adafocus-verify "${CPU[@]}" -f docker/verify/compose.yml "$@"; }
step() { printf '\n== %s\n' "$*"; }
fail() {
  printf 'docker-verify: %s\n' "$*" >&2
  exit 1
}
wait_until() { # SECONDS COMMAND...
  local patience=$1
  shift
  for _ in $(seq "$patience"); do
    "$@" >/dev/null 2>&1 && return 0
    sleep 1
  done
  return 1
}
is_healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$CONTAINER")" = healthy ]; }
inside() { docker exec "$CONTAINER" sh -c "$1"; }
size() { docker image inspect -f '{{.Size}}' "$1"; }
over_base() { echo "$2: $((($(size "$1") - $(size "$PYTHON_IMAGE")) / 1000000)) MB over its base"; }

for tool in docker promtool curl python3; do command -v "$tool" >/dev/null || fail "$tool is missing"; done
docker info >/dev/null 2>&1 || fail "the Docker engine does not respond; check DOCKER_HOST"
[ -f "${CLIPS[0]}" ] || fail "clip ${CLIPS[0]} does not exist; list clips in CLIPS"
mkdir -p $WORK

step files
[ -x $TOOLS/hadolint ] || { python3 -m venv $WORK/venv && $TOOLS/pip install -q -r docker/verify/requirements.txt; }
$TOOLS/hadolint Dockerfile && echo "hadolint: no finding"
$TOOLS/yamllint -s -c docker/yamllint.yml docker-compose.yml docker && echo "yamllint: no finding"
$TOOLS/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml docker/compose.cpu.yml \
  docker/compose.cameras.yml docker/service.yml docker/verify/compose.yml | sed 's/^/compose schema: /'
"${COMPOSE[@]}" -f docker-compose.yml config -q && "${COMPOSE[@]}" "${CPU[@]}" config -q && echo "compose config: both"
promtool check rules docker/prometheus/rules/*.yml
promtool test rules docker/prometheus/tests/*.yml

step images
began=$(date +%s)
docker build -q --target serve -t "$ADAFOCUS_CPU_IMAGE" --build-arg "PYTHON_IMAGE=$PYTHON_IMAGE" . >/dev/null
over_base "$ADAFOCUS_CPU_IMAGE" "serve, built in $(($(date +%s) - began)) s"
if [ "${GPU_IMAGE:-0}" = 1 ]; then
  docker build -q --target serve-gpu -t "$ADAFOCUS_GPU_IMAGE" --build-arg "PYTHON_IMAGE=$PYTHON_IMAGE" . >/dev/null
  over_base "$ADAFOCUS_GPU_IMAGE" serve-gpu
  docker run --rm -v "$PWD/docker/verify/gpu_link.py:/gpu_link.py:ro" --entrypoint python3 "$ADAFOCUS_GPU_IMAGE" \
    /gpu_link.py
  # Run the program itself, too: without a driver it must fail, and only because the driver is missing.
  ! docker run --rm --read-only --tmpfs /tmp --cap-drop ALL "$ADAFOCUS_GPU_IMAGE" >$WORK/gpu.log 2>&1 ||
    fail "image serve-gpu must fail without a GPU, but it ran"
  grep -q 'with error: libcuda.so.1' $WORK/gpu.log || fail "image serve-gpu lacks a library: $(cat $WORK/gpu.log)"
  tail -n 1 $WORK/gpu.log
fi

if [ "${TRAIN_IMAGE:-0}" = 1 ]; then
  docker build -q --target train -t adafocus:train --build-arg "PYTHON_IMAGE=$PYTHON_IMAGE" . >/dev/null
  over_base adafocus:train train
  rm -rf $WORK/data && mkdir -p $WORK/data $WORK/runs && chmod 777 $WORK/runs
  for clip in "${CLIPS[@]}"; do # one class per clip; the accuracy does not matter here
    mkdir "$WORK/data/$(basename "${clip%.*}")" && cp "$clip" "$WORK/data/$(basename "${clip%.*}")/"
  done
  trainer() {
    docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --shm-size 1g \
      -v "$PWD/$WORK/data:/data:ro" -v "$PWD/$WORK/runs:/runs" adafocus:train "$@"
  }
  trainer train --data /data --config small --epochs 2 --batch-size 2 --out /runs/one >$WORK/train.log 2>&1 ||
    fail "training in image train failed: $(tail -n 3 $WORK/train.log)"
  trainer export --checkpoint /runs/one/last.pt --out /runs/bundle >>$WORK/train.log 2>&1 ||
    fail "the export in image train failed: $(tail -n 3 $WORK/train.log)"
  trainer inspect /runs/bundle >$WORK/inspect.log && head -n 1 $WORK/inspect.log
  # Files of the container's user can be removed only by that user.
  docker run --rm -v "$PWD/$WORK/runs:/runs" --entrypoint sh adafocus:train -c 'rm -rf /runs/*'
fi

step up
trap 'compose logs --no-color >$WORK/compose.log 2>&1 || true; compose down -v -t 20 >/dev/null 2>&1 || true' EXIT
compose up -d --no-build >$WORK/up.log 2>&1 || fail "compose up failed: $(tail -n 5 $WORK/up.log)"
CONTAINER=$(compose ps -q adafocus-cpu)
wait_until 90 is_healthy || fail "the service did not become healthy: $(docker logs "$CONTAINER" 2>&1 | tail -n 20)"
docker inspect "$CONTAINER" | $CHECK_OUTPUT health
docker logs "$CONTAINER" 2>&1 | grep -E 'sandbox|"ready"'

step privileges
[ "$(inside 'id -u')" = 10001 ] || fail "the service does not run as user 10001"
! inside 'touch /x 2>/dev/null || touch /opt/adafocus/x 2>/dev/null' || fail "the root file system can be written"
! inside 'touch /bundles/x 2>/dev/null' || fail "the bundles can be written"
inside 'grep -q "^CapEff:.*0000000000000000$" /proc/1/status' || fail "the service has capabilities"
inside 'grep -q "^NoNewPrivs:.*1$" /proc/1/status' || fail "the service may gain privileges"
echo "user 10001, read-only root and bundles, no capabilities, no new privileges"

step "no way out"
! inside 'python3 -c "import socket; socket.getaddrinfo(\"example.org\", 443)" 2>/dev/null' || fail "names outside are resolved"
! inside 'python3 -c "import socket; socket.create_connection((\"1.1.1.1\", 443), 3)" 2>/dev/null' || fail "the internet is reached"
[ "$(docker network inspect -f '{{.Internal}}' adafocus-verify_default)" = true ] || fail "the network is not internal"
[ "$(docker network inspect -f '{{index .Options "com.docker.network.bridge.enable_ip_masquerade"}}' \
  adafocus-verify_edge)" = false ] || fail "addresses of the network with the ports are translated"
echo "no name outside is resolved and no address outside is reached"

step "one upload"
curl -fsS -F "video=@${CLIPS[0]}" "$SERVICE/classify" | $CHECK_OUTPUT answer
curl -fsS "$SERVICE/metrics" | promtool check metrics && echo "promtool: no finding in /metrics"

step load
wait_until 60 curl -fsS "$PROMETHEUS/-/ready" || fail "Prometheus did not become ready"
python3 docker/verify/load.py "$SERVICE" "$PROMETHEUS" "$LOAD_SECONDS" "${CLIPS[@]}"

step dashboards
python3 docker/verify/dashboards.py "$PROMETHEUS" docker/grafana/dashboards/*.json
curl -fsS "$PROMETHEUS/api/v1/rules" | $CHECK_OUTPUT rules
wait_until 60 curl -fsS "$GRAFANA/api/health" || fail "Grafana did not come up"
printf 'grafana: %s\n' "$(curl -fsS "$GRAFANA/api/health" | tr -d '\n ' | head -c 400)"
[ -z "${CHECK:-}" ] || bash -c "$CHECK"

step stop
python3 docker/verify/in_flight.py "${ADAFOCUS_PUBLISH%:*}" "${ADAFOCUS_PUBLISH#*:}" "${CLIPS[0]}" \
  docker stop -t 60 "$CONTAINER"
code=$(docker inspect -f '{{.State.ExitCode}}' "$CONTAINER")
[ "$code" = 0 ] || fail "the service ended with exit code $code"
echo "stop: exit code 0"
docker logs "$CONTAINER" 2>&1 | $CHECK_OUTPUT logs
printf '\ndocker-verify: all checks passed\n'
