{{- define "adafocus.fullname" -}}
{{- if contains "adafocus" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-adafocus" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "adafocus.selector" -}}
app.kubernetes.io/name: adafocus
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "adafocus.labels" -}}
{{ include "adafocus.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "adafocus.image" -}}
{{- $tag := .Values.image.tag | default (ternary "gpu" "cpu" .Values.gpu.enabled) -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{/* A value of a setting as text. Helm reads every number as a float and would write 200000000 as 2e+08. */}}
{{- define "adafocus.setting" -}}
{{- if kindIs "float64" . -}}
{{- if eq (floor .) . -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- else if kindIs "slice" . -}}
{{- join "," . -}}
{{- else -}}
{{ . }}
{{- end -}}
{{- end -}}

{{/* Seconds from the request to stop until the kill: every request that was accepted may end before. */}}
{{- define "adafocus.stopSeconds" -}}
{{- ceil (addf .Values.settings.drain_grace_seconds .Values.settings.request_timeout_seconds .Values.stopMarginSeconds) | int64 -}}
{{- end -}}

{{/* The share of slots that are taken, waiting videos included. It passes 1 when videos wait. */}}
{{- define "adafocus.saturation" -}}
{{- $job := printf "{job=\"%s/%s\"}" .Release.Namespace (include "adafocus.fullname" .) -}}
{{- printf "(sum(adafocus_slots_active%s) + sum(adafocus_queue_depth%s)) / sum(adafocus_slots%s)" $job $job $job -}}
{{- end -}}
