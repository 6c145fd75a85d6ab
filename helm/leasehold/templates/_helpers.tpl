{{/* Names are fixed: one Leasehold per cluster, and other components rely on them. */}}

{{- define "leasehold.labels" -}}
app.kubernetes.io/part-of: leasehold
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{ include "leasehold.selector" . }}
{{- end }}

{{- define "leasehold.selector" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- define "leasehold.image" -}}
{{- $global := .root.Values.global -}}
{{- $registry := coalesce $global.imageRegistry .image.registry -}}
{{- $path := ternary (printf "%s/%s" $registry .image.repository) .image.repository (not (empty $registry)) -}}
{{- if .image.digest -}}
{{ printf "%s@%s" $path .image.digest }}
{{- else -}}
{{ printf "%s:%s" $path (coalesce $global.imageTag .image.tag .root.Chart.AppVersion) }}
{{- end -}}
{{- end }}

{{- define "leasehold.pullPolicy" -}}
{{ coalesce .root.Values.global.imagePullPolicy .image.pullPolicy }}
{{- end }}

{{- define "leasehold.identity" -}}
system:serviceaccount:{{ .root.Release.Namespace }}:leasehold-{{ .name }}
{{- end }}

{{- define "leasehold.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "leasehold.containerSecurityContext" -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Placement and pull secrets, shared by every pod. */}}
{{- define "leasehold.placement" -}}
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "leasehold.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "leasehold.selector" . | nindent 8 }}
{{- end }}

{{/*
The volume with which a machine reaches its broker: its own token for the broker's audience, and the broker's CA certificate.
The broker publishes that certificate at its first start; until then the pod waits for it.
*/}}
{{- define "leasehold.brokerVolume" -}}
name: leasehold-broker
projected:
  defaultMode: 0440
  sources:
    - serviceAccountToken:
        audience: leasehold-broker
        expirationSeconds: 3600
        path: token
    - configMap:
        name: leasehold-ca
        items:
          - key: ca.crt
            path: ca.crt
{{- end }}

{{- define "leasehold.brokerMount" -}}
name: leasehold-broker
mountPath: /var/run/leasehold
readOnly: true
{{- end }}

{{- define "leasehold.probes" -}}
startupProbe:
  httpGet: { path: /livez, port: health }
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: { path: /livez, port: health }
  periodSeconds: 10
  failureThreshold: 3
readinessProbe:
  httpGet: { path: /readyz, port: health }
  periodSeconds: 2
  failureThreshold: 2
{{- end }}

{{- define "leasehold.env" -}}
- name: LEASEHOLD_LOG
  value: {{ .root.Values.logging.level | quote }}
- name: LEASEHOLD_LOG_FORMAT
  value: {{ .root.Values.logging.format }}
{{- with .values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* `UiSMSP=/srv/leasehold/uis,UiOMSP=/srv/…` */}}
{{- define "leasehold.localRoots" -}}
{{- $pairs := list -}}
{{- range $owner, $roots := .Values.storage.local.roots -}}
{{- range (kindIs "string" $roots | ternary (list $roots) $roots) -}}
{{- $pairs = append $pairs (printf "%s=%s" $owner .) -}}
{{- end -}}
{{- end -}}
{{ join "," $pairs }}
{{- end }}

{{/* Bad combinations are refused before anything is applied. */}}
{{- define "leasehold.validate" -}}
{{- if not .Values.organisation -}}
{{- fail "organisation is empty: set it to the MSP id of the organisation that runs this broker, for example --set organisation=UiSMSP" -}}
{{- end -}}
{{- if and (gt (int .Values.spawnerHook.replicas) 1) (not .Values.spawnerHook.tls.existingSecret) -}}
{{- fail "spawnerHook.replicas is above 1 but each replica would make its own certificate authority: set spawnerHook.tls.existingSecret" -}}
{{- end -}}
{{- range $component, $tls := dict "secretBroker" .Values.secretBroker.tls "spawnerHook" .Values.spawnerHook.tls -}}
{{- if ne (empty $tls.existingSecret) (empty $tls.caCertificate) -}}
{{- fail (printf "%s.tls: existingSecret and caCertificate come together or not at all" $component) -}}
{{- end -}}
{{- end -}}
{{- $names := list -}}
{{- range .Values.secretBroker.config.issuers -}}
{{- if has .name $names -}}
{{- fail (printf "secretBroker.config.issuers names %q twice: a subject is the pair of issuer name and sub, so names must differ" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- $others := list -}}
{{- range .Values.secretBroker.config.issuers -}}
{{- if ne .kind "jupyterhub" -}}{{- $others = append $others .name -}}{{- end -}}
{{- end -}}
{{- if has .Values.secretBroker.config.hubIssuer $others -}}
{{- fail (printf "secretBroker.config.hubIssuer %q is also the name of an issuer: the hub could then vouch for that issuer's people" .Values.secretBroker.config.hubIssuer) -}}
{{- end -}}
{{- if not (has .Values.secretBroker.config.machinesIssuer $names) -}}
{{- fail (printf "secretBroker.config.machinesIssuer %q is not the name of any of secretBroker.config.issuers" .Values.secretBroker.config.machinesIssuer) -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled .Values.networkPolicy.usersNamespaces (not .Values.networkPolicy.apiServerCidrs) -}}
{{- fail "networkPolicy.usersNamespaces cuts pods with a dataset off from the network, but networkPolicy.apiServerCidrs is empty, so that their way to the API server would be a way to anywhere: set it to the API server's addresses, for example [\"198.51.100.1/32\"]" -}}
{{- end -}}
{{- with .Values.secretBroker.keyEncryptionKey.pkcs11 -}}
{{- if and .module (not (and .token .pinSecret)) -}}
{{- fail "secretBroker.keyEncryptionKey.pkcs11.module is set but token or pinSecret is empty: name the token, and the Secret with its PIN" -}}
{{- end -}}
{{- end -}}
{{- if and (ne .Values.store.kind "sqlite") (not .Values.store.server.existingSecret) -}}
{{- fail (printf "store.kind is %s but store.server.existingSecret is empty: name the Secret with the database's address" .Values.store.kind) -}}
{{- end -}}
{{- $ledger := .Values.ledger -}}
{{- if eq $ledger.kind "postgres" -}}
{{- if not $ledger.postgres.existingSecret -}}
{{- fail "ledger.kind is postgres but ledger.postgres.existingSecret is empty: name the Secret with the database's address" -}}
{{- end -}}
{{- if not $ledger.signingKey.existingSecret -}}
{{- fail "ledger.kind is postgres but ledger.signingKey.existingSecret is empty: in a database there is no file beside which the broker could keep the key that signs; make one (openssl genpkey -algorithm ed25519) and name its Secret" -}}
{{- end -}}
{{- end -}}
{{- if eq $ledger.kind "fabric" -}}
{{- range $name := list "id" "trustedKeys" -}}
{{- if index $ledger $name -}}
{{- fail (printf "ledger.kind is fabric but ledger.%s is set: it is for a ledger that the broker signs; a channel is named in ledger.fabric.channel" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "channel" "identitySecret" "peers" -}}
{{- if not (index $ledger.fabric $name) -}}
{{- fail (printf "ledger.kind is fabric but ledger.fabric.%s is empty: docs/fabric.md says what belongs there" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if .Values.chaincode.deploy -}}
{{- if not .Values.chaincode.packageId -}}
{{- fail "chaincode.deploy is true but chaincode.packageId is empty: the peer hangs up on a chaincode with another id; set it to what peer lifecycle chaincode calculatepackageid prints" -}}
{{- end -}}
{{- if not .Values.chaincode.tls.existingSecret -}}
{{- fail "chaincode.deploy is true but chaincode.tls.existingSecret is empty: name the Secret with the certificate for the name in the package's connection.json" -}}
{{- end -}}
{{- end -}}
{{- $self := lookup "v1" "Namespace" "" .Release.Namespace -}}
{{- if $self -}}
{{- if eq (dig "metadata" "labels" "leasehold.dev/users" "" $self) "true" -}}
{{- fail (printf "namespace %s is labelled leasehold.dev/users=true: Leasehold's Secrets and people's pods must not share a namespace" .Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- end }}
