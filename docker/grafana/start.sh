#!/bin/sh
# Starts Grafana unless everybody knows its password. Arguments: the command that starts it.
set -eu
if [ "${GRAFANA_ALLOW_ADMIN:-false}" != true ]; then
  case "${GF_SECURITY_ADMIN_PASSWORD:-}" in
  "" | admin)
    echo "Grafana does not start: GRAFANA_ADMIN_PASSWORD is '${GF_SECURITY_ADMIN_PASSWORD:-}'." \
      "Set another password in .env, or GRAFANA_ALLOW_ADMIN=true to use admin all the same." >&2
    exit 1
    ;;
  esac
fi
# An empty password would leave Grafana without one to log in with.
export GF_SECURITY_ADMIN_PASSWORD="${GF_SECURITY_ADMIN_PASSWORD:-admin}"
exec "$@"
