{{- define "carp-sidecar.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* 50 characters, so that "-password" and "-master-<group>" still fit */ -}}
{{- define "carp-sidecar.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "carp-sidecar.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "carp-sidecar.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "carp-sidecar.selectorLabels" -}}
app.kubernetes.io/name: {{ include "carp-sidecar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "carp-sidecar.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "carp-sidecar.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "carp-sidecar.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "carp-sidecar.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "carp-sidecar.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "carp-sidecar.secretName" -}}
{{- default (printf "%s-password" (include "carp-sidecar.fullname" .)) .Values.password.existingSecret }}
{{- end }}

{{- /* "true" where roles are mirrored into the API server */ -}}
{{- define "carp-sidecar.mirrors" -}}
{{- if not (has (toString (get .Values.config "kubernetes")) (list "off" "false")) }}true{{ end }}
{{- end }}

{{- /* the groups whose role the release's own pods bear, as a list: with a target_selector other pods do */ -}}
{{- define "carp-sidecar.ownGroups" -}}
{{- $own := list }}
{{- if include "carp-sidecar.mirrors" . }}
{{- range $group := .Values.config.groups | default (list (dict "name" "default")) }}
{{- if not (or $group.target_selector $.Values.config.target_selector) }}{{ $own = append $own $group }}{{ end }}
{{- end }}
{{- end }}
{{- toYaml $own }}
{{- end }}

{{- /* "true" where a Job replaces the pods, the master last: it goes by the roles that the pods bear */ -}}
{{- define "carp-sidecar.ordered" -}}
{{- if and (eq .Values.updateStrategy.type "Ordered") (include "carp-sidecar.mirrors" .) }}true{{ end }}
{{- end }}

{{- define "carp-sidecar.updateStrategy" -}}
{{- if or (include "carp-sidecar.ordered" .) (eq .Values.updateStrategy.type "OnDelete") -}}
type: OnDelete
{{- else -}}
type: RollingUpdate
rollingUpdate: {{- toYaml .Values.updateStrategy.rollingUpdate | nindent 2 }}
{{- end }}
{{- end }}

{{- /* the settings at each place where they stand, as a list: the top, each group, each node, each node's groups */ -}}
{{- define "carp-sidecar.layers" -}}
{{- $config := .Values.config }}
{{- $layers := list $config }}
{{- range $group := $config.groups }}{{ $layers = append $layers $group }}{{ end }}
{{- range $node := $config.nodes }}
{{- $layers = append $layers $node }}
{{- range $group := $node.groups }}{{ $layers = append $layers $group }}{{ end }}
{{- end }}
{{- toYaml $layers }}
{{- end }}

{{- /* the rules in a file of each feature that is on: by a setting anywhere, or by a health probe of that kind. Call with
(dict "root" $ "file" "role-rules.yaml" "always" (list "mirror") "names" (list)); `names` are resourceNames */ -}}
{{- define "carp-sidecar.rules" -}}
{{- $layers := include "carp-sidecar.layers" .root | fromYamlArray }}
{{- $names := .names }}
{{- $always := .always }}
{{- $rules := list }}
{{- range $feature, $its := .root.Files.Get (printf "files/%s" .file) | fromYaml }}
{{- $on := has $feature $always }}
{{- range $layer := $layers }}
{{- if not (has (toString (get $layer $feature)) (list "" "false" "<nil>")) }}{{ $on = true }}{{ end }}
{{- range $probe := get $layer "health" | default list }}{{ if hasKey $probe $feature }}{{ $on = true }}{{ end }}{{ end }}
{{- end }}
{{- if $on }}
{{- range $rule := $its }}
{{- if $names }}{{ $rule = merge (dict "resourceNames" $names) $rule }}{{ end }}
{{- if not (has $rule $rules) }}{{ $rules = append $rules $rule }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- toYaml $rules }}
{{- end }}

{{- define "carp-sidecar.roleRules" -}}
{{- $always := list "mirror" }}
{{- if ne (toString (get .Values.config "events")) "false" }}{{ $always = append $always "events" }}{{ end }}
{{- include "carp-sidecar.rules" (dict "root" . "file" "role-rules.yaml" "always" $always "names" list) }}
{{- end }}

{{- define "carp-sidecar.defaultRoleRules" -}}
{{- include "carp-sidecar.rules" (dict "root" . "file" "default-role-rules.yaml" "always" list "names" list) }}
{{- end }}

{{- define "carp-sidecar.clusterRoleRules" -}}
{{- include "carp-sidecar.rules" (dict "root" . "file" "cluster-role-rules.yaml" "always" list "names" .Values.rbac.nodeNames) }}
{{- end }}

{{- /* the settings file: the values as they are, and where the password is. It is applied live; what can't be is in the
       pods' environment instead, so that it changes by a rollout and the running pods need refuse nothing. */ -}}
{{- define "carp-sidecar.config" -}}
{{- $config := .Values.config }}
{{- if $config.groups }}
{{- range $group := $config.groups }}
{{- if not (and (or $group.vhid $config.vhid) (or $group.vips $config.vips)) }}
{{- fail (printf "\n\nconfig.groups: %s has no vhid or no vips; give it both, such as {name: %s, vhid: 42, vips: [10.0.0.200]}" $group.name $group.name) }}
{{- end }}
{{- end }}
{{- else if not (and $config.vhid $config.vips) }}
{{- fail "\n\nconfig: there is no group. For a single one: --set config.vhid=42 --set 'config.vips={10.0.0.200}'; for several: config.groups, as values.yaml has it" }}
{{- end }}
{{- $file := dict "password_file" (printf "/run/secrets/carp/%s" .Values.password.key) }}
{{- $whole := deepCopy (mergeOverwrite $file $config) }}
{{- include "carp-sidecar.words" $whole }}
{{- toYaml (omit $whole "log_level" "log_format" "realtime") }}
{{- end }}

{{- /* set again, wherever they stand in a map or list, the words that Helm reads as booleans: a bare off is one in YAML 1.1 */ -}}
{{- define "carp-sidecar.words" -}}
{{- $inside := . }}
{{- range $key, $value := . }}
{{- if or (kindIs "map" $value) (kindIs "slice" $value) }}
{{- include "carp-sidecar.words" $value }}
{{- else if and (kindIs "bool" $value) (has $key (list "http_listen" "kubernetes" "lease")) }}
{{- $_ := set $inside $key (ternary "on" "off" $value) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* the label that carries a group's role: call with (dict "root" $ "group" "web") */ -}}
{{- define "carp-sidecar.roleLabel" -}}
{{- $config := .root.Values.config }}
{{- $label := default "carp-role" $config.role_label }}
{{- if gt (len ($config.groups | default list)) 1 }}{{ printf "%s-%s" $label .group }}{{ else }}{{ $label }}{{ end }}
{{- end }}

{{- define "carp-sidecar.probe" -}}
exec:
  command: [carp-sidecar, status, --json]
{{ toYaml . }}
{{- end }}

{{- /* where the HTTP listener is: address:port, "$(POD_IP):9112" or "off" */ -}}
{{- define "carp-sidecar.httpListen" -}}
{{- $given := get .Values.config "http_listen" | toString | lower }}
{{- if eq $given "false" }}{{ $given = "off" }}{{ end }}
{{- if $given }}
{{- if and .Values.podMonitor.enabled (regexMatch "^(off$|127\\.|\\[::1\\])" $given) }}
{{- fail (printf "\n\nconfig.http_listen: Prometheus cannot reach %s; leave it out (the pod's own address then), or use 0.0.0.0:9112" $given) }}
{{- end }}
{{- $given }}
{{- else if .Values.podMonitor.enabled }}$(POD_IP):9112
{{- else }}127.0.0.1:9112
{{- end }}
{{- end }}

{{- define "carp-sidecar.httpPort" -}}
{{- include "carp-sidecar.httpListen" . | regexFind "[0-9]+$" }}
{{- end }}

{{- /* readiness: by HTTP on the address that the listener has, or as the others where there is none */ -}}
{{- define "carp-sidecar.readiness" -}}
{{- $listen := include "carp-sidecar.httpListen" . }}
{{- if eq $listen "off" }}
{{- include "carp-sidecar.probe" .Values.readinessProbe }}
{{- else }}
{{- $host := regexReplaceAll ":[0-9]+$" $listen "" | trimAll "[]" }}
{{- $host = get (dict "0.0.0.0" "127.0.0.1" "::" "::1") $host | default $host }}
httpGet:
  # Another sidecar may have the port; it refuses this question.
  path: /readyz?daemonset={{ .Release.Namespace }}/{{ include "carp-sidecar.fullname" . }}
  port: {{ include "carp-sidecar.httpPort" . }}
  {{- if ne $host "$(POD_IP)" }}
  host: {{ $host | quote }}
  {{- end }}
{{ toYaml .Values.readinessProbe }}
{{- end }}
{{- end }}
