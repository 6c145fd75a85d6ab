{{/* CEL shared by the webhook configurations and the policies. */}}

{{- define "leasehold.cel.isArgo" -}}
request.userInfo.username == {{ .Values.argo.controllerIdentity | squote }}
{{- end }}

{{- define "leasehold.cel.isProvisioner" -}}
request.userInfo.username == {{ include "leasehold.identity" (dict "root" . "name" "provisioner") | squote }}
{{- end }}

{{/* Kubernetes' own controllers: binder, protection finalizers, garbage collection, namespace deletion. */}}
{{- define "leasehold.cel.isControlPlane" -}}
request.userInfo.username == 'system:kube-controller-manager' || request.userInfo.username.startsWith('system:serviceaccount:kube-system:')
{{- end }}

{{- define "leasehold.cel.isPerson" -}}
request.userInfo.username.matches('^system:serviceaccount:[^:]+:(nb|wf)-')
{{- end }}

{{- define "leasehold.cel.podNamesClaim" -}}
object.spec.?volumes.orValue([]).exists(v, v.?persistentVolumeClaim.?claimName.orValue('').startsWith('leasehold-'))
{{- end }}

{{- define "leasehold.cel.sameStamp" -}}
object.metadata.?annotations[?'leasehold.dev/stamp'].orValue('') == oldObject.metadata.?annotations[?'leasehold.dev/stamp'].orValue('')
{{- end }}

{{/* By its claims too: volumes never change, labels can be asked to. */}}
{{- define "leasehold.cel.isDatasetPod" -}}
oldObject.metadata.?labels[?'leasehold.dev/dataset-pod'].orValue('') == 'true' || object.metadata.?labels[?'leasehold.dev/dataset-pod'].orValue('') == 'true' || {{ include "leasehold.cel.podNamesClaim" . }}
{{- end }}

{{/* A namespace in which notebooks and workflows live. */}}
{{- define "leasehold.cel.inUsersNamespace" -}}
namespaceObject.metadata.?labels[?'leasehold.dev/users'].orValue('') == 'true'
{{- end }}

{{- define "leasehold.cel.isHub" -}}
request.userInfo.username in [{{ range $i, $hub := .Values.hub.identities }}{{ if $i }}, {{ end }}{{ $hub | squote }}{{ end }}]
{{- end }}
