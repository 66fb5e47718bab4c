{{- define "distill-router.name" -}}
{{- .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The release's name, with the chart's unless it is in there. Room is left for "-redis". */}}
{{- define "distill-router.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "distill-router.redisName" -}}
{{ include "distill-router.fullname" . }}-redis
{{- end }}

{{- define "distill-router.selector" -}}
app.kubernetes.io/name: {{ include "distill-router.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "distill-router.labels" -}}
{{ include "distill-router.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "distill-router.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "distill-router.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Where the configuration should find Redis: a mapping `redis`, as YAML; empty where none is in use. */}}
{{- define "distill-router.redis" -}}
{{- $url := .Values.redis.url }}
{{- if .Values.redis.enabled }}
{{- if $url }}{{ fail "redis.enabled and redis.url: choose one" }}{{ end }}
{{- $url = printf "redis://%s:6379/0" (include "distill-router.redisName" .) }}
{{- end }}
{{- if $url -}}
url: {{ $url | quote }}
{{- if .Values.redis.existingSecret }}
password_env: REDIS_PASSWORD
{{- end }}
{{- end }}
{{- end }}

{{/* The configuration as a mapping, however it was given; the example where it was not. */}}
{{- define "distill-router.parsedConfig" -}}
{{- $config := .Values.config | default (.Files.Get "files/example-router.yaml" | fromYaml) }}
{{- if kindIs "string" $config }}
{{- $config = fromYaml $config }}
{{- if hasKey $config "Error" }}{{ fail (printf "config is not YAML: %s" $config.Error) }}{{ end }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* router.yaml: a text verbatim, a mapping with the chart's Redis where it names none. */}}
{{- define "distill-router.config" -}}
{{- $redis := include "distill-router.redis" . }}
{{- $parsed := include "distill-router.parsedConfig" . | fromYaml }}
{{- $verbatim := and .Values.config (kindIs "string" .Values.config) }}
{{- if and $redis (not (hasKey $parsed "redis")) }}
{{- if $verbatim }}
{{- fail (printf "config is a text without `redis`; add to it: redis: {%s}, or set redis.enabled=false" (replace "\n" ", " $redis)) }}
{{- end }}
{{- $_ := set $parsed "redis" (fromYaml $redis) }}
{{- end }}
{{- if $verbatim }}
{{- .Values.config }}
{{- else }}
{{- toYaml $parsed }}
{{- end }}
{{- end }}

{{- define "distill-router.terminationGracePeriodSeconds" -}}
{{- $server := (include "distill-router.parsedConfig" . | fromYaml).server | default dict }}
{{- add .Values.preStopSleepSeconds (ceil ($server.drain_s | default 30)) 10 }}
{{- end }}

{{/* The restricted profile of the Pod Security Standards, at the level of a container. */}}
{{- define "distill-router.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "distill-router.redisPasswordSource" -}}
valueFrom:
  secretKeyRef:
    name: {{ .Values.redis.existingSecret }}
    key: {{ .Values.redis.existingSecretKey }}
{{- end }}
