#!/usr/bin/env bash
# The deployment, run for real: files checked, images built, everything brought up without a GPU, a load of real clips,
# every query of every dashboard, the counters against the answers, a stop in the middle of a request.
#   make docker-verify
# Needs a Docker engine (DOCKER_HOST as usual), docker compose or docker-compose, promtool and curl. Ends what it began.
#   CLIPS="a.mp4 b.mp4"   clips to load with; samples/ if unset
#   LOAD_SECONDS=90       how long; a dashboard looks back a minute
#   GPU_IMAGE=1           build image serve-gpu too (3 GB) and try its libraries
#   TRAIN_IMAGE=1         build image train too (6 GB), learn from the clips for two epochs and export what came of it
#   CHECK='commands'      run after the load, while everything is up
set -euo pipefail
cd "$(dirname "$0")/.."

read -ra CLIPS <<<"${CLIPS:-$(echo samples/*.mp4)}"
LOAD_SECONDS=${LOAD_SECONDS:-90}
PYTHON_IMAGE=${PYTHON_IMAGE:-python:3.11-slim-bookworm}
export ADAFOCUS_CPU_IMAGE=${ADAFOCUS_CPU_IMAGE:-adafocus:cpu} ADAFOCUS_GPU_IMAGE=${ADAFOCUS_GPU_IMAGE:-adafocus:gpu}
export ADAFOCUS_PUBLISH=127.0.0.1:18000 PROMETHEUS_PUBLISH=127.0.0.1:19090 GRAFANA_PUBLISH=127.0.0.1:13000
export SERVICE=http://$ADAFOCUS_PUBLISH PROMETHEUS=http://$PROMETHEUS_PUBLISH GRAFANA=http://$GRAFANA_PUBLISH
export DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1
WORK=build/docker-verify TOOLS=build/docker-verify/venv/bin SAID="python3 docker/verify/said.py"
CPU=(-f docker-compose.yml -f docker/compose.cpu.yml)

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
docker info >/dev/null 2>&1 || fail "no Docker engine answers; set DOCKER_HOST"
[ -f "${CLIPS[0]}" ] || fail "no clip to load with; name some in CLIPS"
mkdir -p $WORK

step files
[ -x $TOOLS/hadolint ] || { python3 -m venv $WORK/venv && $TOOLS/pip install -q -r docker/verify/requirements.txt; }
$TOOLS/hadolint Dockerfile && echo "hadolint: no finding"
$TOOLS/yamllint -s -c docker/yamllint.yml docker-compose.yml docker && echo "yamllint: no finding"
$TOOLS/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml docker/compose.cpu.yml \
  docker/service.yml docker/verify/compose.yml | sed 's/^/compose schema: /'
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
  # The program itself, too: without a driver it must end, and miss nothing but the driver.
  ! docker run --rm --read-only --tmpfs /tmp --cap-drop ALL "$ADAFOCUS_GPU_IMAGE" >$WORK/gpu.log 2>&1 ||
    fail "image serve-gpu runs without a GPU"
  grep -q 'with error: libcuda.so.1' $WORK/gpu.log || fail "image serve-gpu misses a library: $(cat $WORK/gpu.log)"
  tail -n 1 $WORK/gpu.log
fi

if [ "${TRAIN_IMAGE:-0}" = 1 ]; then
  docker build -q --target train -t adafocus:train --build-arg "PYTHON_IMAGE=$PYTHON_IMAGE" . >/dev/null
  over_base adafocus:train train
  rm -rf $WORK/data && mkdir -p $WORK/data $WORK/runs && chmod 777 $WORK/runs
  for clip in "${CLIPS[@]}"; do # a class of its own each: this is not about what it learns
    mkdir "$WORK/data/$(basename "${clip%.*}")" && cp "$clip" "$WORK/data/$(basename "${clip%.*}")/"
  done
  trainer() {
    docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --shm-size 1g \
      -v "$PWD/$WORK/data:/data:ro" -v "$PWD/$WORK/runs:/runs" adafocus:train "$@"
  }
  trainer train --data /data --config small --epochs 2 --batch-size 2 --out /runs/one >$WORK/train.log 2>&1 ||
    fail "image train does not train: $(tail -n 3 $WORK/train.log)"
  trainer export --checkpoint /runs/one/last.pt --out /runs/bundle >>$WORK/train.log 2>&1 ||
    fail "image train does not export: $(tail -n 3 $WORK/train.log)"
  trainer inspect /runs/bundle >$WORK/inspect.log && head -n 1 $WORK/inspect.log
  # What the container's user wrote, nobody else may remove.
  docker run --rm -v "$PWD/$WORK/runs:/runs" --entrypoint sh adafocus:train -c 'rm -rf /runs/*'
fi

step up
trap 'compose logs --no-color >$WORK/compose.log 2>&1 || true; compose down -v -t 20 >/dev/null 2>&1 || true' EXIT
compose up -d --no-build >$WORK/up.log 2>&1 || fail "compose up failed: $(tail -n 5 $WORK/up.log)"
CONTAINER=$(compose ps -q adafocus-cpu)
wait_until 90 is_healthy || fail "the service did not become healthy: $(docker logs "$CONTAINER" 2>&1 | tail -n 20)"
docker inspect "$CONTAINER" | $SAID health
docker logs "$CONTAINER" 2>&1 | grep -E 'sandbox|"ready"'

step privileges
[ "$(inside 'id -u')" = 10001 ] || fail "the service does not run as user 10001"
! inside 'touch /x 2>/dev/null || touch /opt/adafocus/x 2>/dev/null' || fail "the root file system can be written"
! inside 'touch /bundles/x 2>/dev/null' || fail "the bundles can be written"
inside 'grep -q "^CapEff:.*0000000000000000$" /proc/1/status' || fail "the service has capabilities"
inside 'grep -q "^NoNewPrivs:.*1$" /proc/1/status' || fail "the service may gain privileges"
echo "user 10001, read-only root and bundles, no capabilities, no new privileges"

step "one upload"
curl -fsS -F "video=@${CLIPS[0]}" "$SERVICE/classify" | $SAID answer
curl -fsS "$SERVICE/metrics" | promtool check metrics && echo "promtool: no finding in /metrics"

step load
wait_until 60 curl -fsS "$PROMETHEUS/-/ready" || fail "Prometheus did not become ready"
python3 docker/verify/load.py "$SERVICE" "$PROMETHEUS" "$LOAD_SECONDS" "${CLIPS[@]}"

step dashboards
python3 docker/verify/dashboards.py "$PROMETHEUS" docker/grafana/dashboards/*.json
curl -fsS "$PROMETHEUS/api/v1/rules" | $SAID rules
wait_until 60 curl -fsS "$GRAFANA/api/health" || fail "Grafana did not come up"
printf 'grafana: %s\n' "$(curl -fsS "$GRAFANA/api/health" | tr -d '\n ' | head -c 400)"
[ -z "${CHECK:-}" ] || bash -c "$CHECK"

step stop
python3 docker/verify/in_flight.py "${ADAFOCUS_PUBLISH%:*}" "${ADAFOCUS_PUBLISH#*:}" "${CLIPS[0]}" \
  docker stop -t 60 "$CONTAINER"
code=$(docker inspect -f '{{.State.ExitCode}}' "$CONTAINER")
[ "$code" = 0 ] || fail "the service ended with exit code $code"
echo "stop: exit code 0"
docker logs "$CONTAINER" 2>&1 | $SAID logs
printf '\ndocker-verify: all of it held\n'
