{{- define "phoenix.labels" -}}
app.kubernetes.io/part-of: phoenix-orchestrator
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "phoenix.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ printf "%s@%s" .repository .digest }}{{ else }}{{ printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) }}{{ end }}
{{- end }}
{{- end }}

{{/* Addresses by name, as PHOENIX_PROMETHEUS has them: the name `default` is left out. */}}
{{- define "phoenix.prometheus" -}}
{{- $words := list }}
{{- range $name, $urls := .Values.prometheus }}
{{- range $urls }}
{{- $words = append $words (eq $name "default" | ternary . (printf "%s=%s" $name .)) }}
{{- end }}
{{- end }}
{{- join " " $words }}
{{- end }}

{{/* Objects of a file of k8s, each with the release's labels, in the release's namespace. Those for the whole cluster
have a name of their own, `cluster`; without it they are left out. */}}
{{- define "phoenix.objects" -}}
{{- range splitList "\n---\n" (.Files.Get .file) }}
{{- $object := fromYaml . }}
{{- if or $.cluster (not (hasPrefix "Cluster" $object.kind)) }}
{{- $metadata := merge (dict "labels" (fromYaml (include "phoenix.labels" $))) $object.metadata }}
{{- if and (eq $object.kind "ServiceAccount") $.Values.serviceAccount.annotations }}
{{- $_ := set $metadata "annotations" $.Values.serviceAccount.annotations }}
{{- end }}
{{- if hasPrefix "Cluster" $object.kind }}
{{- $name := printf "%s:%s" $.Release.Namespace $.cluster }}
{{- $_ := set $metadata "name" $name }}
{{- if $object.roleRef }}
{{- $_ := set $object.roleRef "name" $name }}
{{- end }}
{{- end }}
{{- $_ := set $object "metadata" $metadata }}
{{- range $object.subjects }}
{{- $_ := set . "namespace" $.Release.Namespace }}
{{- end }}
---
{{ toYaml $object }}
{{- end }}
{{- end }}
{{- end }}
