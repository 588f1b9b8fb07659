{{- define "sidecar.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "sidecar.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "sidecar.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "sidecar.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "sidecar.selector" -}}
app.kubernetes.io/name: {{ include "sidecar.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: leased
{{- end -}}

{{- define "sidecar.labels" -}}
app.kubernetes.io/name: {{ include "sidecar.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "sidecar.image" -}}
{{- if .digest -}}{{ printf "%s@%s" .repository .digest }}{{- else -}}{{ printf "%s:%s" .repository .tag }}{{- end -}}
{{- end -}}

{{- define "sidecar.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "sidecar.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* Where the binary is in the command's container. */}}
{{- define "sidecar.binary" -}}
{{- ternary "/opt/sidecar/sidecar" .Values.sidecar.path (ne .Values.sidecar.image.repository "") -}}
{{- end -}}

{{/* Seconds, as a number, to what the command line takes: 10 -> 10s, 2.5 -> 2500ms. Never 2.5e+03 or the like. */}}
{{- define "sidecar.duration" -}}
{{- $ms := int64 (round (mulf . 1000) 0) -}}
{{- if eq (mod $ms 1000) 0 -}}{{ div $ms 1000 }}s{{- else -}}{{ $ms }}ms{{- end -}}
{{- end -}}

{{/* The durations in milliseconds, with what the binary takes where nothing is said; that may have a fraction: rounded up. */}}
{{- define "sidecar.milliseconds" -}}
{{- $lease := .Values.lease -}}
{{- $ttl := int64 (round (mulf $lease.ttlSeconds 1000) 0) -}}
{{- $margin := div (add $ttl 4) 5 -}}
{{- if not (kindIs "invalid" $lease.marginSeconds) -}}{{- $margin = int64 (round (mulf $lease.marginSeconds 1000) 0) -}}{{- end -}}
{{- $renew := div (add $ttl 4) 5 -}}
{{- if not (kindIs "invalid" $lease.renewIntervalSeconds) -}}{{- $renew = int64 (round (mulf $lease.renewIntervalSeconds 1000) 0) -}}{{- end -}}
{{- $grace := int64 (round (mulf $lease.graceSeconds 1000) 0) -}}
{{/* After the grace period: the tree is killed, for which the margin is made, and one statement releases the lease. */}}
{{- $after := add $margin (div (sub $ttl $margin) 4) -}}
{{- dict "ttl" $ttl "margin" $margin "renew" $renew "grace" $grace "after" $after | toJson -}}
{{- end -}}

{{/* Whole seconds the pod needs from SIGTERM to its end at the longest. */}}
{{- define "sidecar.leastTermination" -}}
{{- $ms := include "sidecar.milliseconds" . | fromJson -}}
{{- divf (addf $ms.grace $ms.after) 1000 | ceil | int64 -}}
{{- end -}}

{{- define "sidecar.termination" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- $ms := include "sidecar.milliseconds" . | fromJson -}}
{{/* 5 s for the kubelet, and for a machine that is busy; the whole never below grace + 15. */}}
{{- divf (addf $ms.grace (max 10000 (int64 $ms.after)) 5000) 1000 | ceil | int64 -}}
{{- else -}}
{{- int64 .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{/* What a schema cannot compare. The rules between the durations are the binary's own: better refused here than in a pod. */}}
{{- define "sidecar.check" -}}
{{- $lease := .Values.lease -}}
{{- $ms := include "sidecar.milliseconds" . | fromJson -}}
{{- if lt (mulf $ms.margin 12) (float64 $ms.ttl) -}}
{{- fail (printf "lease.marginSeconds is below lease.ttlSeconds / 12 (%vs): the margin must cover killing the command, the patience with a silent guard, and clocks of different rates" (divf $ms.ttl 12000)) -}}
{{- end -}}
{{- if gt (mulf $ms.margin 2) (float64 $ms.ttl) -}}
{{- fail (printf "lease.marginSeconds is above lease.ttlSeconds / 2 (%vs): the command could run for less time than the margin lasts" (divf $ms.ttl 2000)) -}}
{{- end -}}
{{- if gt (mulf $ms.renew 2) (subf $ms.ttl $ms.margin) -}}
{{- fail (printf "lease.renewIntervalSeconds (%vs) is too long: two renewals must fit into lease.ttlSeconds - lease.marginSeconds (%vs)" (divf $ms.renew 1000) (divf (subf $ms.ttl $ms.margin) 1000)) -}}
{{- end -}}
{{- $least := include "sidecar.leastTermination" . | int64 -}}
{{- if lt (include "sidecar.termination" . | int64) $least -}}
{{- fail (printf "terminationGracePeriodSeconds (%v) is below %d, the sum of lease.graceSeconds and the time to kill the tree and release the lease: the kubelet would kill first, and the next leader would wait for the TTL" .Values.terminationGracePeriodSeconds $least) -}}
{{- end -}}
{{- $libpq := "" -}}
{{- $named := false -}}
{{- range .Values.extraEnv -}}
{{- if has .name (list "PGHOST" "PGHOSTADDR" "PGSERVICE" "PGDATABASE") -}}{{- $libpq = .name -}}{{- end -}}
{{- if regexMatch "^AIRFLOW__(DATABASE|CORE)__SQL_ALCHEMY_CONN(_CMD)?$" .name -}}{{- $named = true -}}{{- end -}}
{{- end -}}
{{- if and $libpq (not $lease.existingSecret) (or $named (and .Values.connection.existingSecret (ne .Values.connection.variable "SIDECAR_DATABASE_URL"))) -}}
{{- fail (printf "extraEnv has %s, which takes precedence over Airflow's variable: this lease could be in another database than that of other sidecars. Name the database with lease.existingSecret, or remove %s" $libpq $libpq) -}}
{{- end -}}
{{- if not (or .Values.connection.existingSecret $lease.existingSecret .Values.extraEnvFrom $libpq $named) -}}
{{- fail "no database: set connection.existingSecret (and connection.key) to the secret that holds its URL" -}}
{{- end -}}
{{- if and .Values.leaderService.enabled (not .Values.leaderService.ports) -}}
{{- fail "leaderService.enabled without leaderService.ports: a Service needs at least one port" -}}
{{- end -}}
{{- if and .Values.serviceAccount.automount (not .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.automount is for an account with rights: bind the rights to an account, and name it in serviceAccount.name" -}}
{{- end -}}
{{- include "sidecar.checkParts" . -}}
{{- end -}}

{{/* Two of the container's parts that the test pod shares. */}}
{{- define "sidecar.databaseEnv" -}}
{{- with .Values.connection }}
{{- if .existingSecret }}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret | quote }}
      key: {{ .key | quote }}
{{- end }}
{{- end }}
{{- with .Values.lease }}
{{- if .existingSecret }}
- name: SIDECAR_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret | quote }}
      key: {{ .key | quote }}
{{- end }}
- name: SIDECAR_LEASE
  value: {{ .name | quote }}
- name: SIDECAR_TTL
  value: {{ include "sidecar.duration" .ttlSeconds }}
{{- if not (kindIs "invalid" .renewIntervalSeconds) }}
- name: SIDECAR_RENEW_INTERVAL
  value: {{ include "sidecar.duration" .renewIntervalSeconds }}
{{- end }}
{{- if not (kindIs "invalid" .marginSeconds) }}
- name: SIDECAR_MARGIN
  value: {{ include "sidecar.duration" .marginSeconds }}
{{- end }}
- name: SIDECAR_ALLOW_SESSION_POOLER
  value: {{ .allowSessionPooler | quote }}
{{- end }}
- name: SIDECAR_NODE
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end -}}

{{/* What is said once: (list WHAT LIST) fails when the list has something twice. */}}
{{- define "sidecar.once" -}}
{{- $what := index . 0 -}}
{{- $seen := dict -}}
{{- range index . 1 -}}
{{- if hasKey $seen . -}}{{- fail (printf "%s %q is there twice" $what .) -}}{{- end -}}
{{- $_ := set $seen . true -}}
{{- end -}}
{{- end -}}

{{/* Names and paths that the chart's own and the added parts of the pod may have only once, and folders that must stay. */}}
{{- define "sidecar.checkParts" -}}
{{- $brought := ne .Values.sidecar.image.repository "" -}}
{{- $volumes := list "sidecar-run" -}}
{{- $paths := list "/run/sidecar" -}}
{{- $containers := list "command" -}}
{{- if $brought -}}
{{- $volumes = append $volumes "sidecar-binary" -}}
{{- $paths = append $paths "/opt/sidecar" -}}
{{- $containers = append $containers "sidecar-binary" -}}
{{- end -}}
{{- range $i, $path := .Values.writable -}}
{{- $clean := clean $path -}}
{{- if or (has $clean (list "/" "/run/sidecar" "/opt/sidecar")) (regexMatch "^/(proc|sys|dev|run/sidecar|opt/sidecar)(/|$)" $clean) -}}
{{- fail (printf "writable: %q would hide what the container needs" $path) -}}
{{- end -}}
{{- if and (not $brought) (hasPrefix (printf "%s/" $clean) (include "sidecar.binary" $ | clean)) -}}
{{- fail (printf "writable: %q would hide the binary, %s" $path $.Values.sidecar.path) -}}
{{- end -}}
{{- $volumes = append $volumes (printf "writable-%d" $i) -}}
{{- $paths = append $paths $clean -}}
{{- end -}}
{{- with .Values.config -}}{{- if .existingConfigMap -}}
{{- $volumes = append $volumes "config" -}}{{- $paths = append $paths (clean .mountPath) -}}
{{- end -}}{{- end -}}
{{- with .Values.dags -}}{{- if .volume -}}
{{- $volumes = append $volumes "dags" -}}{{- $paths = append $paths (clean .mountPath) -}}
{{- end -}}{{- end -}}
{{- range .Values.extraVolumes -}}{{- $volumes = append $volumes .name -}}{{- end -}}
{{- range .Values.extraVolumeMounts -}}
{{- if not (has .name $volumes) -}}{{- fail (printf "extraVolumeMounts: %q is not a volume of the pod" .name) -}}{{- end -}}
{{- $paths = append $paths (clean .mountPath) -}}
{{- end -}}
{{- range concat .Values.extraInitContainers .Values.extraContainers -}}{{- $containers = append $containers .name -}}{{- end -}}
{{- include "sidecar.once" (list "volume" $volumes) -}}
{{- include "sidecar.once" (list "mount path" $paths) -}}
{{- include "sidecar.once" (list "container" $containers) -}}
{{- $variables := list -}}
{{- if .Values.connection.existingSecret -}}{{- $variables = append $variables .Values.connection.variable -}}{{- end -}}
{{- if .Values.lease.existingSecret -}}{{- $variables = append $variables "SIDECAR_DATABASE_URL" -}}{{- end -}}
{{- range .Values.extraEnv -}}{{- $variables = append $variables .name -}}{{- end -}}
{{- include "sidecar.once" (list "variable" $variables) -}}
{{- $names := list -}}
{{- $numbers := list -}}
{{- range .Values.leaderService.ports -}}
{{- $names = append $names .name -}}{{- $numbers = append $numbers (int .port | toString) -}}
{{- end -}}
{{- include "sidecar.once" (list "leaderService.ports: name" $names) -}}
{{- include "sidecar.once" (list "leaderService.ports: port" $numbers) -}}
{{- if and .Values.leaderService.enabled (not (regexMatch "^[a-z][-a-z0-9]*$" (include "sidecar.fullname" .))) -}}
{{- fail (printf "leaderService: a Service's name must begin with a letter and have no dot, unlike %q: set fullnameOverride" (include "sidecar.fullname" .)) -}}
{{- end -}}
{{- end -}}

{{- define "sidecar.containerSecurityContext" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "sidecar.podSecurityContext" -}}
{{- $context := merge (dict "runAsNonRoot" true) .Values.podSecurityContext -}}
{{- if not $context.seccompProfile -}}{{- $_ := set $context "seccompProfile" (dict "type" "RuntimeDefault") -}}{{- end -}}
{{- toYaml $context -}}
{{- end -}}

{{- define "sidecar.bringBinary" -}}
{{- with .Values.sidecar -}}
- name: sidecar-binary
  image: {{ include "sidecar.image" .image | quote }}
  imagePullPolicy: {{ .image.pullPolicy }}
  # The binary and the libraries it was linked with: nothing of them needs to be in the command's image.
  command: [cp, -R, /opt/sidecar/., /to]
  securityContext:
    {{- include "sidecar.containerSecurityContext" $ | nindent 4 }}
  resources:
    requests: {cpu: 10m, memory: 32Mi}
    limits: {memory: 64Mi}
  volumeMounts:
    - {name: sidecar-binary, mountPath: /to}
{{- end -}}
{{- end -}}

{{/* What the second container of the test pod does. The leader's command must be seen running, in one and the same leadership,
for 20 s: one that ends at once has used its restarts up by then, and is led by another. Only a shell's own words, and sleep. */}}
{{- define "sidecar.watch" -}}
first= left=20
while [ $left -gt 0 ]; do
    code=0
    view=$("$0" lease -o json) || code=$?
    case $code in
        0) ;;
        2) echo "the leader's command does not run: $view"; exit 1 ;;
        *) echo "nobody leads: $view"; exit 1 ;;
    esac
    case $view in
        *'"role": "leader", "healthy": true'*) ;;
        *) echo "the leader's command does not run: $view"; exit 1 ;;
    esac
    epoch=${view#*'"epoch": '} epoch=${epoch%%,*}
    [ "${first:=$epoch}" = "$epoch" ] || { echo "the leader has changed: $view"; exit 1; }
    left=$((left - 1))
    sleep 1
done
"$0" lease
{{- end -}}

{{/* A container of the test pod: (list ROOT NAME IMAGE COMMAND). Of the volumes that extraVolumeMounts names it has those of
extraVolumes. */}}
{{- define "sidecar.testContainer" -}}
{{- $root := index . 0 -}}
{{- $image := index . 2 -}}
{{- $added := list -}}
{{- range $root.Values.extraVolumes -}}{{- $added = append $added .name -}}{{- end -}}
{{- $mounts := list -}}
{{- range $root.Values.extraVolumeMounts -}}{{- if has .name $added -}}{{- $mounts = append $mounts . -}}{{- end -}}{{- end -}}
- name: {{ index . 1 }}
  image: {{ include "sidecar.image" $image | quote }}
  imagePullPolicy: {{ $image.pullPolicy }}
  command: {{ index . 3 | toJson }}
  env:
    {{- include "sidecar.databaseEnv" $root | trim | nindent 4 }}
    {{- with $root.Values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $root.Values.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "sidecar.containerSecurityContext" $root | nindent 4 }}
  resources:
    requests: {cpu: 10m, memory: 32Mi}
    limits: {memory: 128Mi}
  {{- if or $root.Values.sidecar.image.repository $mounts }}
  volumeMounts:
    {{- if $root.Values.sidecar.image.repository }}
    - {name: sidecar-binary, mountPath: /opt/sidecar, readOnly: true}
    {{- end }}
    {{- with $mounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
{{- end -}}
