{{/* The name of everything in this release. */}}
{{- define "holdfast.name" -}}
{{- if contains "holdfast" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-holdfast" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects this release's pods. These never change. */}}
{{- define "holdfast.selector" -}}
app.kubernetes.io/name: holdfast
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* The labels of every object. */}}
{{- define "holdfast.labels" -}}
{{ include "holdfast.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/*
The pools of workers as a map in YAML, each with the defaults of "worker" below
its own values. Read it with fromYaml.
*/}}
{{- define "holdfast.pools" -}}
{{- $pools := dict -}}
{{- range $name, $own := .Values.workers -}}
{{- if not (kindIs "invalid" $own) -}}
{{- $_ := set $pools $name (mergeOverwrite (deepCopy $.Values.worker) $own) -}}
{{- end -}}
{{- end -}}
{{- toYaml $pools -}}
{{- end -}}

{{/* A pod's own metadata: dict root, selector (text), own (the node's values). */}}
{{- define "holdfast.podMetadata" -}}
annotations:
  # A changed server.hcl makes new pods: it is read at the start.
  checksum/config: {{ .root.Values.config | sha256sum | quote }}
  {{- with .own.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
labels:
  # Not the chart's version, which would make new pods for nothing.
  {{- include "holdfast.selector" .root | nindent 2 }}
  {{- .selector | nindent 2 }}
  {{- with .own.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/*
What web nodes and workers have in common in their pods: dict root, selector
(text), own (the node's values), account (the service account's name).
*/}}
{{- define "holdfast.podSpec" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 4141
  runAsGroup: 4141
  fsGroup: 4141
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "holdfast.selector" .root | nindent 8 }}
        {{- .selector | nindent 8 }}
{{- with .own.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
What web nodes and workers have in common in their container: dict root, own
(the node's values), env (variables of this node, by name).
*/}}
{{- define "holdfast.container" -}}
image: {{ printf "%s:%s" .root.Values.image.repository (.root.Values.image.tag | default .root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
env:
  {{- $fixed := dict "HOLDFAST_LISTEN" ":4141" "HOLDFAST_DATA_DIR" "/var/lib/holdfast/data" }}
  {{- range $name, $value := mergeOverwrite (deepCopy .root.Values.env) .env $fixed }}
  - name: {{ $name | quote }}
    value: {{ $value | toString | quote }}
  {{- end }}
  {{- range $secret, $keys := .root.Values.secrets }}
  {{- range $keys }}
  - name: {{ . | quote }}
    valueFrom:
      secretKeyRef:
        name: {{ $secret | quote }}
        key: {{ . | quote }}
  {{- end }}
  {{- end }}
ports:
  - name: http
    containerPort: 4141
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 5
  # Five minutes: a first start may install an engine.
  failureThreshold: 60
livenessProbe:
  # /healthz and not /readyz: a worker that is restarted because Redis is away
  # would be killed in the middle of an apply.
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 6 # it gives Redis five
resources:
  {{- toYaml .own.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
volumeMounts:
  - {name: config, mountPath: /etc/holdfast, readOnly: true}
  - {name: data, mountPath: /var/lib/holdfast}
  - {name: tmp, mountPath: /tmp}
{{- end -}}
