//! What a pod of the controller may not have: each attack with its code.

use leasehold_webhook::review::Stage;
use serde_json::{Value, json};

use crate::world::*;

#[test]
fn the_attacks_on_a_pod_are_refused_with_their_codes() {
    let world = World::new();
    let main = "/spec/containers/1";
    let set = |path: String, value: Value| -> Box<dyn Fn(&mut Value)> {
        Box::new(move |object: &mut Value| {
            let (parent, key) = path.rsplit_once('/').unwrap();
            match object.pointer_mut(parent).unwrap() {
                Value::Array(list) => list.push(value.clone()),
                parent => parent[key.replace("~1", "/")] = value.clone(),
            }
        })
    };
    let volume = |value: Value| set("/spec/volumes/-".into(), value);
    let rows = vec![
        (
            "P01 bob's home",
            "pvc_not_injected",
            volume(json!({"name": "x", "persistentVolumeClaim": {"claimName": "claim-bob"}})),
        ),
        (
            "P01 hub's",
            "pvc_not_injected",
            volume(json!({"name": "x", "persistentVolumeClaim": {"claimName": "hub-db-dir"}})),
        ),
        (
            "P01 other name",
            "pvc_not_injected",
            volume(json!({"name": "x", "persistentVolumeClaim": {"claimName": format!("leasehold-{UIS}")}})),
        ),
        (
            "P01 bob's lease",
            "pvc_not_injected",
            volume(
                json!({"name": format!("leasehold-{BOBS}"), "persistentVolumeClaim": {"claimName": format!("leasehold-{BOBS}"), "readOnly": true}}),
            ),
        ),
        (
            "P11 writable",
            "pvc_not_injected",
            volume(
                json!({"name": format!("leasehold-{UIS}"), "persistentVolumeClaim": {"claimName": format!("leasehold-{UIS}")}}),
            ),
        ),
        (
            "P07",
            "reserved_metadata",
            set(
                "/metadata/labels/workflows.argoproj.io~1workflow".into(),
                json!("bobs"),
            ),
        ),
        (
            "P07 node",
            "reserved_metadata",
            set(
                "/metadata/annotations/workflows.argoproj.io~1node-id".into(),
                json!("bobs-1"),
            ),
        ),
        (
            "P07 kill",
            "annotation_not_allowed",
            set(
                "/metadata/annotations/workflows.argoproj.io~1kill-cmd-main".into(),
                json!("[]"),
            ),
        ),
        (
            "P08",
            "label_not_allowed",
            set("/metadata/labels/app".into(), json!("jupyterhub")),
        ),
        (
            "P08 netpol",
            "label_not_allowed",
            set(
                "/metadata/labels/hub.jupyter.org~1network-access-hub".into(),
                json!("true"),
            ),
        ),
        (
            "N01 annotation",
            "reserved_metadata",
            set("/metadata/annotations/leasehold.dev~1leases".into(), json!("x")),
        ),
        (
            "P08 ports",
            "field_not_allowed",
            set(
                format!("{main}/ports"),
                json!([{"name": "http", "containerPort": 8081}]),
            ),
        ),
        (
            "P10 name",
            "reserved_name",
            volume(json!({"name": format!("leasehold-{UIS}"), "emptyDir": {}})),
        ),
        (
            "P10 init",
            "reserved_name",
            Box::new(|object: &mut Value| {
                let name = format!("leasehold-{UIS}");
                object["spec"]["volumes"].as_array_mut().unwrap().push(
                    json!({"name": name, "persistentVolumeClaim": {"claimName": name, "readOnly": true}}),
                );
                object["spec"]["initContainers"][0]["volumeMounts"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": name, "mountPath": "/x", "readOnly": true}));
            }),
        ),
        (
            "P10 elsewhere",
            "reserved_name",
            Box::new(|object: &mut Value| {
                let name = format!("leasehold-{UIS}");
                object["spec"]["volumes"].as_array_mut().unwrap().push(
                    json!({"name": name, "persistentVolumeClaim": {"claimName": name, "readOnly": true}}),
                );
                object["spec"]["containers"][1]["volumeMounts"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": name, "mountPath": "/home/jovyan/x", "readOnly": true}));
            }),
        ),
        (
            "P11 overlap",
            "path_overlap",
            Box::new(|object: &mut Value| {
                object["spec"]["volumes"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": "x", "emptyDir": {}}));
                object["spec"]["containers"][1]["volumeMounts"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": "x", "mountPath": "/home/jovyan/datasets"}));
            }),
        ),
        (
            "P11 overlap by Argo's volume",
            "path_overlap",
            Box::new(|object: &mut Value| {
                object["spec"]["containers"][1]["volumeMounts"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": "var-run-argo", "mountPath": "/home/jovyan/datasets"}));
            }),
        ),
        (
            "token elsewhere",
            "reserved_name",
            Box::new(|object: &mut Value| {
                let token = object["spec"]["volumes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(|v| v.get("projected").is_some())
                    .unwrap()["name"]
                    .clone();
                object["spec"]["containers"][1]["volumeMounts"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": token, "mountPath": "/t"}));
            }),
        ),
        (
            "P11 subPathExpr",
            "field_not_allowed",
            set(format!("{main}/volumeMounts/0/subPathExpr"), json!("$(X)")),
        ),
        (
            "S07",
            "field_not_allowed",
            set(format!("{main}/volumeDevices"), json!([])),
        ),
        (
            "P12",
            "secret_ref",
            volume(json!({"name": "x", "secret": {"secretName": "hub"}})),
        ),
        (
            "P12 projected",
            "secret_ref",
            volume(
                json!({"name": "kube-api-access-x", "projected": {"sources": [{"secret": {"name": "hub"}}]}}),
            ),
        ),
        (
            "P12 env",
            "secret_ref",
            set(
                format!("{main}/env/-"),
                json!({"name": "X", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "x"}}}),
            ),
        ),
        (
            "P12 init envFrom",
            "secret_ref",
            set(
                "/spec/initContainers/0/envFrom".into(),
                json!([{"secretRef": {"name": "hub"}}]),
            ),
        ),
        (
            "P14 hostPath",
            "volume_type",
            volume(json!({"name": "x", "hostPath": {"path": "/"}})),
        ),
        (
            "P14 csi",
            "volume_type",
            volume(json!({"name": "x", "csi": {"driver": "d"}})),
        ),
        (
            "P14 audience",
            "volume_type",
            volume(
                json!({"name": "kube-api-access-x", "projected": {"sources": [{"serviceAccountToken": {"audience": "leasehold", "path": "t"}}]}}),
            ),
        ),
        (
            "P14 config",
            "volume_type",
            volume(json!({"name": "x", "configMap": {"name": "x"}})),
        ),
        (
            "P16",
            "field_not_allowed",
            set("/spec/ephemeralContainers".into(), json!([])),
        ),
        (
            "P18 shared",
            "field_not_allowed",
            set("/spec/shareProcessNamespace".into(), json!(true)),
        ),
        (
            "P18 node",
            "field_not_allowed",
            set("/spec/nodeName".into(), json!("node0")),
        ),
        (
            "P18 scheduler",
            "field_not_allowed",
            set("/spec/schedulerName".into(), json!("evil")),
        ),
        (
            "P18 tolerations",
            "field_not_allowed",
            set("/spec/tolerations/-".into(), json!({"operator": "Exists"})),
        ),
        (
            "P18 priority",
            "field_not_allowed",
            set("/spec/priorityClassName".into(), json!("system-node-critical")),
        ),
        (
            "P18 runtime",
            "field_not_allowed",
            set("/spec/runtimeClassName".into(), json!("x")),
        ),
        (
            "P18 DRA",
            "field_not_allowed",
            set("/spec/resourceClaims".into(), json!([])),
        ),
        (
            "P18 fsGroup",
            "field_not_allowed",
            set("/spec/securityContext/fsGroup".into(), json!(0)),
        ),
        (
            "P18 stdin",
            "field_not_allowed",
            set(format!("{main}/stdin"), json!(true)),
        ),
        (
            "PS2 host",
            "field_not_allowed",
            set("/spec/hostNetwork".into(), json!(true)),
        ),
        (
            "PS2 privileged",
            "field_not_allowed",
            set(format!("{main}/securityContext/privileged"), json!(true)),
        ),
        (
            "PS2 capabilities",
            "field_not_allowed",
            set(
                format!("{main}/securityContext/capabilities"),
                json!({"add": ["SYS_ADMIN"]}),
            ),
        ),
        (
            "PS3",
            "field_not_allowed",
            set(
                format!("{main}/livenessProbe"),
                json!({"httpGet": {"host": "broker"}}),
            ),
        ),
        ("unknown", "unknown_field", set("/spec/Volumes".into(), json!([]))),
    ];
    for (row, code, edit) in &rows {
        let mut review = pod();
        edit(object(&mut review));
        for stage in [Stage::Mutating, Stage::Validating] {
            refused(row, world.patch(stage, &review), code);
        }
    }
}
