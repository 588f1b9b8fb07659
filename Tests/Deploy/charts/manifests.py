"""What the test of the charts asks of rendered manifests, which are read as the API server reads them. Needs PyYAML."""

import json
import os

import yaml


class Once(yaml.SafeLoader):
    """Refuses what YAML's readers let pass: a key that is there twice."""

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"line {node.start_mark.line + 1}: the key {name} is there twice")
        return super().construct_mapping(node, deep)


def documents(path):
    with open(path, encoding="utf-8") as file:
        return [each for each in yaml.load_all(file, Loader=Once) if each]


def no_texts(value, inside=""):
    """Names, keys and labels that YAML has taken for numbers, truths or dates."""
    if isinstance(value, list):
        for each in value:
            yield from no_texts(each, inside)
    elif isinstance(value, dict):
        for key, each in value.items():
            named = key in ("name", "namespace", "key", "subPath", "mountPath", "topologyKey", "priorityClassName", "serviceAccountName")
            if not isinstance(each, (dict, list, str)) and (named or inside in ("labels", "matchLabels", "annotations", "selector")):
                yield f"{inside}.{key}"
            yield from no_texts(each, key)


def pod_spec(document):
    return document["spec"]["template"]["spec"] if document["kind"] == "Deployment" else document["spec"]


def workload(path, kind):
    found = [each for each in documents(path) if each["kind"] == kind]
    if len(found) != 1:
        raise ValueError(f"{len(found)} documents of kind {kind} in {path}")
    return found[0]


def container(spec, name):
    for each in spec.get("initContainers", []) + spec["containers"]:
        if each["name"] == name:
            return each
    raise ValueError(f"no container {name}")


def seconds(text):
    return float(text[:-2]) / 1000 if text.endswith("ms") else float(text[:-1])


def judge_containers(document, spec, bad):
    if spec.get("automountServiceAccountToken") is not False:
        bad("the pod gets a token of the Kubernetes API")
    for key in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        if spec.get(key):
            bad(f"{key} is set")
    volumes = [each["name"] for each in spec.get("volumes") or []]
    everybody = spec.get("initContainers", []) + spec["containers"]
    for what, names in (("volume", volumes), ("container", [each["name"] for each in everybody])):
        if len(set(names)) != len(names):
            bad(f"a {what} is there twice")
    for each in everybody:
        mounts = each.get("volumeMounts") or []
        for mount in mounts:
            if mount["name"] not in volumes:
                bad(f"{each['name']} mounts {mount['name']}, which is no volume")
        if len({mount["mountPath"] for mount in mounts}) != len(mounts):
            bad(f"{each['name']}: two volumes in one place")
    for volume in spec.get("volumes") or []:
        if "hostPath" in volume:
            bad(f"volume {volume['name']} is a folder of the node")
    pod = spec.get("securityContext", {})
    if pod.get("runAsNonRoot") is not True or pod.get("runAsUser", 0) == 0:
        bad("the pod may run as root")
    if pod.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        bad("no seccomp profile")
    for each in spec.get("initContainers", []) + spec["containers"]:
        own, name = each.get("securityContext", {}), each["name"]
        if own.get("readOnlyRootFilesystem") is not True:
            bad(f"{name}: the root file system can be written")
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            bad(f"{name}: privileges can grow")
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
            bad(f"{name}: has capabilities")
        if not each.get("resources", {}).get("limits", {}).get("memory"):
            bad(f"{name}: no memory limit")
        if document["kind"] == "Pod" and any(key.endswith("Probe") for key in each):
            bad(f"{name}: a probe in a pod that ends")


def judge_deployment(document, others, bad):
    spec = pod_spec(document)
    main = container(spec, "command")
    binary = main["command"][0]
    if main["command"][1:] != ["run", "--"] or not main.get("args"):
        bad("the command does not run under the sidecar")
    # The one that kills: a standby runs no command and leads nothing, and must live.
    for probe, word in (("startup", "live"), ("liveness", "live"), ("readiness", "ready")):
        asked = main.get(probe + "Probe", {}).get("exec", {}).get("command")
        if asked != [binary, "probe", word]:
            bad(f"{probe}Probe asks {asked}, not `probe {word}`")
    variables = {each["name"]: each.get("value") for each in main["env"]}
    if len(variables) != len(main["env"]):
        bad("a variable is there twice")
    ttl = seconds(variables["SIDECAR_TTL"])
    margin = seconds(variables["SIDECAR_MARGIN"]) if "SIDECAR_MARGIN" in variables else ttl / 5
    least = seconds(variables["SIDECAR_GRACE"]) + margin + (ttl - margin) / 4
    if spec.get("terminationGracePeriodSeconds", 30) < least:
        bad(f"terminationGracePeriodSeconds below {least}: the kubelet kills before the lease is released")
    mounts = {each["mountPath"]: each["name"] for each in main["volumeMounts"]}
    volumes = {each["name"]: each for each in spec["volumes"]}
    folder = os.path.dirname(variables["SIDECAR_READY_FILE"])
    if volumes.get(mounts.get(folder), {}).get("emptyDir", {}).get("medium") != "Memory":
        bad(f"{folder} is not in memory")

    leader_only = variables["SIDECAR_READY_WHEN"] == "leader"
    replicas, update = document["spec"]["replicas"], document["spec"]["strategy"]["rollingUpdate"]
    whole = lambda value: replicas if value == "100%" else value
    if not leader_only and (update["maxUnavailable"] != 0 or update["maxSurge"] < 1):
        bad("an update may stop an old pod before a new one is ready")
    # Which pods can go while only the leader is ready: either all, or all but the one that is ready.
    if leader_only and whole(update["maxUnavailable"]) not in (replicas, replicas - 1):
        bad("an update waits for standbys that never get ready")
    if document["spec"]["minReadySeconds"] >= document["spec"]["progressDeadlineSeconds"]:
        bad("the update is given up before it can succeed")

    labels = document["spec"]["template"]["metadata"]["labels"]
    selects = lambda selector: selector and all(labels.get(key) == value for key, value in selector.items())
    if not selects(document["spec"]["selector"]["matchLabels"]):
        bad("the Deployment does not select its pods")
    for other in others:
        kind, its = other["kind"], other.get("spec")
        if kind == "PodDisruptionBudget":
            if leader_only or replicas == 1:
                bad("a budget that blocks drains or protects nothing")
            if its.get("maxUnavailable") != 1 or its.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
                bad("the budget may block a drain for ever")
            if not selects(its["selector"]["matchLabels"]):
                bad("the budget selects other pods")
        if kind == "NetworkPolicy" and not selects(its["podSelector"]["matchLabels"]):
            bad("the NetworkPolicy selects other pods")
        if kind == "Service":
            if not leader_only:
                bad("a Service for the leader, and the standbys are ready, too")
            if not selects(its["selector"]) or its.get("publishNotReadyAddresses"):
                bad("the Service does not select the ready ones of its pods")
            named = {each["name"] for each in main.get("ports", [])}
            if any(each["targetPort"] not in named for each in its["ports"]):
                bad("the Service names a port that the container does not")
        if kind == "Pod" and all(other["metadata"]["labels"].get(key) == value
                                 for key, value in document["spec"]["selector"]["matchLabels"].items()):
            bad("the Deployment selects the test's pod")
        if kind in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Secret"):
            bad(f"a {kind}")


def judge(path):
    """What breaks a promise of the chart."""
    found, everything = [], documents(path)
    for document in everything:
        say = lambda text, kind=document["kind"]: found.append(f"{kind}: {text}")
        for each in no_texts(document):
            say(f"{each} is no text")
        if document["kind"] in ("Deployment", "Pod"):
            judge_containers(document, pod_spec(document), say)
        if document["kind"] == "Deployment":
            judge_deployment(document, [each for each in everything if each is not document], say)
        if document["kind"] == "ServiceAccount" and document.get("automountServiceAccountToken") is not False:
            say("mounts its token")
    return found


def run(path, kind, name, pod, folder, secrets):
    """The arguments of `podman run` that make the container as the kubelet would: command, user, root file system, capabilities,
    variables, volumes. `secrets` are the values of secrets by their keys; `folder` holds the pod's emptyDirs."""
    document = workload(path, kind)
    spec = pod_spec(document)
    main = container(spec, name)
    context = {**spec.get("securityContext", {}), **main.get("securityContext", {})}
    arguments = ["--hostname", pod]
    if "runAsUser" in context:
        arguments += ["--user", f"{context['runAsUser']}:{context.get('runAsGroup', 0)}"]
    if "fsGroup" in context:
        arguments += ["--group-add", str(context["fsGroup"])]
    if context.get("readOnlyRootFilesystem"):
        # podman would put writable folders into a read-only container, the kubelet does not.
        arguments += ["--read-only", "--read-only-tmpfs=false"]
    for each in context.get("capabilities", {}).get("drop", []):
        arguments += ["--cap-drop", each]
    if context.get("allowPrivilegeEscalation") is False:
        arguments += ["--security-opt", "no-new-privileges"]
    for each in main.get("env", []):
        source = each.get("valueFrom", {})
        if "secretKeyRef" in source:
            value = secrets[source["secretKeyRef"]["key"]]
        elif "fieldRef" in source:
            value = {"metadata.name": pod}[source["fieldRef"]["fieldPath"]]
        else:
            value = each.get("value", "")
        arguments += ["--env", f"{each['name']}={value}"]
    volumes = {each["name"]: each for each in spec.get("volumes", [])}
    for mount in main.get("volumeMounts", []):
        source = volumes[mount["name"]].get("emptyDir")
        if source is None:
            raise ValueError(f"volume {mount['name']} is no emptyDir")
        mode = "ro" if mount.get("readOnly") else "rw"
        if source.get("medium") == "Memory":
            size = source["sizeLimit"].replace("Mi", "m")
            arguments += ["--tmpfs", f"{mount['mountPath']}:{mode},size={size},mode=0777"]
        else:
            on_host = os.path.join(folder, mount["name"])
            os.makedirs(on_host, exist_ok=True)
            os.chmod(on_host, 0o777)
            arguments += ["--volume", f"{on_host}:{mount['mountPath']}:{mode}"]
    if "command" in main:
        arguments += ["--entrypoint", json.dumps(main["command"])]
    return arguments + [main["image"]] + main.get("args", [])


def keys(values, schema_free=("resources", "podSecurityContext")):
    for key, value in values.items():
        if isinstance(value, dict) and value and key not in schema_free:
            yield from (f"{key}.{each}" for each in keys(value))
        else:
            yield key


def undocumented(values, readme):
    """Which values the README does not name."""
    with open(readme, encoding="utf-8") as file:
        text = file.read()
    return [each for each in keys(documents(values)[0]) if f"`{each}`" not in text]


def not_restricted(path):
    """What the Pod Security Standard `restricted`, or a quota, misses in an overlay's init containers."""
    missing = []
    for each in documents(path)[0]["scheduler"]["extraInitContainers"]:
        context, resources = each.get("securityContext", {}), each.get("resources", {})
        missing += [f"{each['name']}: {what}" for what, there in (
            ("runAsNonRoot", context.get("runAsNonRoot") is True),
            ("allowPrivilegeEscalation", context.get("allowPrivilegeEscalation") is False),
            ("capabilities", context.get("capabilities") == {"drop": ["ALL"]}),
            ("seccompProfile", context.get("seccompProfile") == {"type": "RuntimeDefault"}),
            ("requests", set(resources.get("requests", {})) == {"cpu", "memory"}),
            ("limits", set(resources.get("limits", {})) == {"cpu", "memory"}),
        ) if not there]
    return missing


def official(path, image):
    """The pod that the official chart makes of its overlay: how its templates/scheduler/scheduler-deployment.yaml places it."""
    values = documents(path)[0]["scheduler"]
    spec = {
        "terminationGracePeriodSeconds": values["terminationGracePeriodSeconds"],
        # The chart's own: uid 50000, gid 0.
        "securityContext": {"runAsUser": 50000, "runAsGroup": 0, "fsGroup": 0},
        "initContainers": values["extraInitContainers"],
        "containers": [{
            "name": "scheduler", "image": image, "command": values["command"], "args": values["args"],
            "env": [{"name": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
                     "valueFrom": {"secretKeyRef": {"name": "airflow-metadata", "key": "connection"}}}],
            "livenessProbe": {"exec": {"command": values["livenessProbe"]["command"]}},
            "startupProbe": {"exec": {"command": values["startupProbe"]["command"]}},
            "volumeMounts": values["extraVolumeMounts"] + [{"name": "logs", "mountPath": "/opt/airflow/logs"}],
        }],
        "volumes": values["extraVolumes"] + [{"name": "logs", "emptyDir": {}}],
    }
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "scheduler"}, "spec": spec})


def completed(path):
    """A page's part of a Deployment with what it leaves out, and what of it would not work."""
    part, found = documents(path)[0], []
    template = part["spec"]["template"]
    labels = {"app": "scheduler"}
    part.update(apiVersion="apps/v1", kind="Deployment", metadata={"name": "scheduler"})
    part["spec"]["selector"] = {"matchLabels": labels}
    template["metadata"] = {"labels": labels}
    spec, each = template["spec"], template["spec"]["containers"][0]
    each["image"] = "registry.example/airflow-with-sidecar:1"
    binary = each["command"][0]
    if each["command"][1:] != ["run", "--"] or not each.get("args"):
        found.append("the command does not run under the sidecar")
    for probe, word in (("startup", "live"), ("liveness", "live"), ("readiness", "ready")):
        if each.get(probe + "Probe", {}).get("exec", {}).get("command") != [binary, "probe", word]:
            found.append(f"{probe}Probe does not ask `probe {word}`")
    # What the defaults of --grace and --ttl take.
    if spec.get("terminationGracePeriodSeconds", 30) < 34:
        found.append("the kubelet kills before the lease is released")
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    run = [mount["name"] for mount in each["volumeMounts"] if mount["mountPath"] == "/run/sidecar"]
    if [volumes.get(name, {}).get("emptyDir", {}).get("medium") for name in run] != ["Memory"]:
        found.append("/run/sidecar is not in memory")
    return yaml.safe_dump(part), found


def probe(path, kind, name, which):
    """The command of a probe: startup, readiness or liveness."""
    return container(pod_spec(workload(path, kind)), name)[which + "Probe"]["exec"]["command"]


def grace(path, kind):
    return pod_spec(workload(path, kind))["terminationGracePeriodSeconds"]
