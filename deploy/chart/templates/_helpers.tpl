{{/* One operator runs in a cluster: what it is called does not depend on the name of the release. */}}
{{- define "secrets-distributor.name" -}}
secrets-distributor
{{- end }}

{{- define "secrets-distributor.selector" -}}
app.kubernetes.io/name: {{ include "secrets-distributor.name" . }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "secrets-distributor.labels" -}}
{{ include "secrets-distributor.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{/* Name, namespace and labels of an object of the chart. */}}
{{- define "secrets-distributor.metadata" -}}
name: {{ include "secrets-distributor.name" . }}
namespace: {{ .Release.Namespace | quote }}
labels:
  {{- include "secrets-distributor.labels" . | nindent 2 }}
{{- end }}

{{- define "secrets-distributor.image" -}}
{{ .Values.image | default (printf "%s:%s" .Chart.Name .Chart.AppVersion) }}
{{- end }}

{{/* The variable MANAGED_BY was the only way to say it once. */}}
{{- define "secrets-distributor.managedBy" -}}
{{- $said := .Values.managedBy }}
{{- range .Values.env }}{{ if eq .name "MANAGED_BY" }}{{ $said = .value }}{{ end }}{{ end }}
{{- $said }}
{{- end }}

{{- define "secrets-distributor.digestKeySecret" -}}
{{ .Values.digestKey.secretName | default (printf "%s-digest-key" (include "secrets-distributor.name" .)) }}
{{- end }}

{{/* The role that a namespace binds, and the RoleBinding by which it does so. */}}
{{- define "secrets-distributor.tenantRole" -}}
{{ eq .Values.secretsAccess "watch" | ternary "secrets-distributor-tenant" "secrets-distributor-tenant-write-only" }}
{{- end }}

{{- define "secrets-distributor.delegation" -}}
{{ eq .Values.secretsAccess "watch" | ternary "secrets-distributor" "secrets-distributor-write-only" }}
{{- end }}

{{/* What can be wrong with values that are each right by themselves. */}}
{{- define "secrets-distributor.check" -}}
{{- range .Values.volumeMounts }}
{{- if or .subPath .subPathExpr }}
{{- fail (printf "volumeMounts: %s is mounted by subPath, which never sees a rotation; mount the whole volume" .name) }}
{{- end }}
{{- end }}
{{- if not (regexMatch "^[A-Za-z0-9][A-Za-z0-9 ._/-]{0,252}$" (include "secrets-distributor.managedBy" .)) }}
{{- fail "env: MANAGED_BY must be 1 to 253 letters, digits, spaces and ._/-, beginning with a letter or digit" }}
{{- end }}
{{- if gt (len .Values.sources) 1 }}
{{- range $index, $source := .Values.sources }}
{{- if not $source.folder }}
{{- fail (printf "sources[%d].folder: is required, since there are several sources: each has a folder of its own" $index) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.metricsFrom) }}
{{- fail "networkPolicy.metricsFrom: is required with metrics.serviceMonitor: say who may scrape, for instance [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]" }}
{{- end }}
{{- end }}

{{/* The port in the address of the collector, or that of its scheme. */}}
{{- define "secrets-distributor.collectorPort" -}}
{{- $url := urlParse .Values.tracing.endpoint }}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" }}
{{- $port | default (eq $url.scheme "https" | ternary "443" "80") }}
{{- end }}
