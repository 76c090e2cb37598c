{{- define "stowplan.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "stowplan.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "stowplan.fullname" .) }}
{{- end }}

{{- define "stowplan.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "stowplan.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "stowplan.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /* Pod Security level restricted, for the operator's pod and the test's. */}}
{{- define "stowplan.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "stowplan.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* The operator's user name at the API server. */}}
{{- define "stowplan.userName" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "stowplan.serviceAccountName" . }}
{{- end }}

{{- /* What the operator does with jobs and their children, wherever it may. Not more: no secrets, exec, RBAC, nodes. */}}
{{- define "stowplan.jobRules" -}}
- apiGroups: [""]
  resources: [pods]
  verbs: [create, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, create]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
# Deleted when its ttlSecondsAfterFinished has passed.
- apiGroups: [stowplan.dev]
  resources: [trainingjobs]
  verbs: [delete]
- apiGroups: [stowplan.dev]
  resources: [trainingjobs/status]
  verbs: [patch]
{{- end }}
