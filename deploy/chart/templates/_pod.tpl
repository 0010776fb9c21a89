{{/* The volume of a source. */}}
{{- define "secrets-distributor.source" -}}
{{- if .csi -}}
csi:
  driver: {{ .csi.driver | default "secrets-store.csi.k8s.io" | quote }}
  readOnly: true
  volumeAttributes:
    secretProviderClass: {{ .csi.secretProviderClass | quote }}
  {{- with .csi.nodePublishSecret }}
  nodePublishSecretRef:
    name: {{ . | quote }}
  {{- end }}
{{- else if .secret -}}
secret:
  secretName: {{ .secret.name | quote }}
  defaultMode: 288 # 0440
{{- else if .hostPath -}}
hostPath:
  path: {{ .hostPath.path | quote }}
  type: Directory
{{- else -}}
{{ toYaml .volume }}
{{- end }}
{{- end }}

{{/* What the chart says in the environment of the operator. */}}
{{- define "secrets-distributor.ownEnv" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: SERVICE_ACCOUNT
  valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}
- name: DIGEST_KEY_FILE
  value: /etc/secrets-distributor/digest.key
- name: SECRETS_ACCESS
  value: {{ .Values.secretsAccess | quote }}
- name: ENFORCEMENT
  value: {{ .Values.enforcement | quote }}
- name: RESYNC_INTERVAL
  value: {{ .Values.resyncInterval | quote }}
- name: LEASE_DURATION
  value: {{ .Values.lease.duration | quote }}
- name: LOG_FORMAT
  value: {{ .Values.log.format | quote }}
- name: LOG_LEVEL
  value: {{ .Values.log.level | quote }}
- name: METRICS_NAMESPACE_LABEL
  value: {{ .Values.metrics.namespaceLabel | quote }}
- name: MANAGED_BY
  value: {{ include "secrets-distributor.managedBy" . | quote }}
{{- with .Values.tracing }}
{{- if .endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ .protocol | quote }}
{{- if .headersSecret.name }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef: {{ toJson .headersSecret }}
{{- end }}
{{- end }}
{{- if .url }}
- name: TRACE_URL
  value: {{ .url | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* A variable that `env` says takes the place of the chart's: none may be there twice. */}}
{{- define "secrets-distributor.env" -}}
{{- $said := dict }}
{{- range .Values.env }}{{ $_ := set $said .name true }}{{ end }}
{{- range include "secrets-distributor.ownEnv" . | fromYamlArray }}
{{- if not (hasKey $said .name) }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}
