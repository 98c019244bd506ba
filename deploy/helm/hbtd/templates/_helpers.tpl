{{- define "hbtd.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "hbtd.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains (include "hbtd.name" .) .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "hbtd.name" .) | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What never changes: a Deployment's selector is immutable. */}}
{{- define "hbtd.selector" -}}
app.kubernetes.io/name: {{ include "hbtd.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "hbtd.labels" -}}
{{ include "hbtd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "hbtd.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end -}}
{{- end -}}

{{/* A number as digits (Helm has 1000000 as 1e+06), yes or no for a boolean, else the text. */}}
{{- define "hbtd.text" -}}
{{- if kindIs "bool" . -}}
{{- ternary "yes" "no" . -}}
{{- else if kindIs "float64" . -}}
{{- if eq (floor .) . }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* All options that are given, as JSON: those of the Secrets, and over them the values of `options`. */}}
{{- define "hbtd.options" -}}
{{- $all := dict -}}
{{- with .Values.secrets -}}
{{- if .tls }}{{ $_ := set $all "tls_cert" "/etc/hbtd/tls/tls.crt" }}{{ $_ := set $all "tls_key" "/etc/hbtd/tls/tls.key" }}{{ end -}}
{{- if .clientCA }}{{ $_ := set $all "tls_client_ca" "/etc/hbtd/clientCA/ca.crt" }}{{ end -}}
{{- if .clientCRL }}{{ $_ := set $all "tls_client_crl" "/etc/hbtd/clientCRL/ca.crl" }}{{ end -}}
{{- if .tokens }}{{ $_ := set $all "operator_access" "token:/etc/hbtd/tokens/tokens" }}{{ end -}}
{{- if .jwks }}{{ $_ := set $all "node_access" "jwt:/etc/hbtd/jwks/jwks.json" }}{{ end -}}
{{- if .hsmCA }}{{ $_ := set $all "sm_ca" "/etc/hbtd/hsmCA/ca.crt" }}{{ end -}}
{{- if .etcdCA }}{{ $_ := set $all "kv_ca" "/etc/hbtd/etcdCA/ca.crt" }}{{ end -}}
{{- if .etcdClient }}{{ $_ := set $all "kv_cert" "/etc/hbtd/etcdClient/tls.crt" }}{{ $_ := set $all "kv_key" "/etc/hbtd/etcdClient/tls.key" }}{{ end -}}
{{- if .hsmClient }}{{ $_ := set $all "sm_cert" "/etc/hbtd/hsmClient/tls.crt" }}{{ $_ := set $all "sm_key" "/etc/hbtd/hsmClient/tls.key" }}{{ end -}}
{{- if .hsmToken }}{{ $_ := set $all "sm_token" "/etc/hbtd/hsmToken/token" }}{{ end -}}
{{- if .etcdLogin }}{{ $_ := set $all "kv_login" "/etc/hbtd/etcdLogin/login" }}{{ end -}}
{{- if or .kafkaCA .kafkaClient }}{{ $_ := set $all "telemetry_tls" "yes" }}{{ end -}}
{{- if .kafkaCA }}{{ $_ := set $all "telemetry_ca" "/etc/hbtd/kafkaCA/ca.crt" }}{{ end -}}
{{- if .kafkaClient }}{{ $_ := set $all "telemetry_cert" "/etc/hbtd/kafkaClient/tls.crt" }}{{ $_ := set $all "telemetry_key" "/etc/hbtd/kafkaClient/tls.key" }}{{ end -}}
{{- if .kafkaLogin }}{{ $_ := set $all "telemetry_login" "/etc/hbtd/kafkaLogin/login" }}{{ end -}}
{{- end -}}
{{- range $name, $value := .Values.options -}}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $all $name (include "hbtd.text" $value) }}{{ end -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/* The port as hbtd reads it: 28500 unless an option says otherwise. */}}
{{- define "hbtd.port" -}}
{{- get (include "hbtd.options" . | fromJson) "port" | default "28500" -}}
{{- end -}}

{{/* HTTP or HTTPS, by the options. */}}
{{- define "hbtd.scheme" -}}
{{- $options := include "hbtd.options" . | fromJson -}}
{{- $plain := has (get $options "tls" | default "yes" | lower) (list "no" "false" "off" "0") -}}
{{- if and (get $options "listen") (not (get $options "tls_cert")) }}{{ $plain = true }}{{ end -}}
{{- ternary "HTTP" "HTTPS" $plain -}}
{{- end -}}

{{/* How a probe asks, and when: with the context, the path below the prefix, its times, and those for a command
inside of the container. */}}
{{- define "hbtd.probe" -}}
{{- $options := include "hbtd.options" .context | fromJson -}}
{{- $required := has (get $options "tls_client_required" | default "no" | lower) (list "yes" "true" "on" "1") -}}
{{- if or (get $options "listen") $required -}}
exec:
  command: [/opt/hbtd/bin/hbtd, --health]
{{ toYaml .inside }}
{{- else -}}
httpGet:
  path: {{ .context.Values.probes.prefix }}{{ .path }}
  port: http
  scheme: {{ include "hbtd.scheme" .context }}
{{ toYaml .times }}
{{- end }}
{{- end -}}

{{/* Values that can't be used together. */}}
{{- define "hbtd.check" -}}
{{- $options := include "hbtd.options" . | fromJson -}}
{{- $store := get $options "kv_url" -}}
{{- if and (gt (int .Values.replicaCount) 1) (or (hasPrefix "mem:" $store) (hasPrefix "sqlite:" $store)) -}}
{{- fail (printf "replicaCount: %d can't be used with options.kv_url: %s, which only one replica can use; say where etcd is" (int .Values.replicaCount) $store) -}}
{{- end -}}
{{- if eq (include "hbtd.port" .) "0" -}}
{{- fail "options.port: 0 can't be used: a Service needs to know the port" -}}
{{- end -}}
{{- if and (get $options "tls_cert") (eq (include "hbtd.scheme" .) "HTTP") -}}
{{- fail "secrets.tls can't be used with options.tls: no; leave one of them out" -}}
{{- end -}}
{{- if and .Values.secrets.clientCRL (not .Values.secrets.clientCA) -}}
{{- fail "secrets.clientCRL can't be used without secrets.clientCA, whose certificates it revokes" -}}
{{- end -}}
{{- end -}}
