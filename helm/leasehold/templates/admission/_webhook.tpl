{{/*
What both configurations say of each webhook. caBundle is left out on purpose: the provisioner keeps it, and an upgrade must
not take it away.
*/}}
{{- define "leasehold.webhook" -}}
admissionReviewVersions: [v1]
clientConfig:
  service:
    name: leasehold-webhook
    namespace: {{ .root.Release.Namespace }}
    path: {{ .path }}
    port: 443
failurePolicy: Fail
matchPolicy: Equivalent
sideEffects: None
timeoutSeconds: {{ .root.Values.webhook.timeoutSeconds }}
namespaceSelector:
  matchLabels:
    leasehold.dev/users: "true"
{{- end }}

{{/* Pods that Argo makes, and pods of anybody else that name a lease's claim. */}}
{{- define "leasehold.webhook.pods" -}}
rules:
  - apiGroups: [""]
    apiVersions: [v1]
    operations: [CREATE]
    resources: [pods]
    scope: Namespaced
matchConditions:
  - name: made-by-argo-or-names-a-claim
    expression: >-
      {{ include "leasehold.cel.isArgo" . }} ||
      {{ include "leasehold.cel.podNamesClaim" . }}
{{- end }}

{{/* The controller writes a Workflow's status through the same UPDATE: it comes to us only if it touches the stamp. */}}
{{- define "leasehold.webhook.workflowConditions" -}}
- name: not-the-controllers-own-bookkeeping
  expression: >-
    request.operation != 'UPDATE' || !({{ include "leasehold.cel.isArgo" . }}) ||
    !({{ include "leasehold.cel.sameStamp" . }})
- name: not-the-control-planes-cleaning
  expression: >-
    request.operation != 'DELETE' ||
    !({{ include "leasehold.cel.isArgo" . }} || {{ include "leasehold.cel.isControlPlane" . }})
{{- end }}
