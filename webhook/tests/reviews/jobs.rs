//! Which datasets a job gets: by its command line, its environment, or all.

use serde_json::{Value, json};

use crate::world::*;
use leasehold_broker_wire::machines::{self, watch_leases_response::Change};
use leasehold_webhook::review::Denial;

const CAT: &str = "cccccccccccccccccccccccccccccccc";

fn world() -> World {
    World::with(vec![
        lease(UIS, "uis", "alice"),
        lease(CAT, "cat", "alice"),
        lease(BOBS, "secret", "bob"),
    ])
}

/// A job with these words after the emissary's `--`, and this LEASE_DATASETS in its environment.
fn job(argv: &[&str], env: Option<&str>) -> Value {
    let mut review = pod();
    let main = &mut object(&mut review)["spec"]["containers"][1];
    let mut command = vec!["/var/run/argo/argoexec", "emissary", "--loglevel", "info", "--"];
    command.extend(argv);
    main["command"] = json!(command);
    if let Some(env) = env {
        main["env"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "LEASE_DATASETS", "value": env}));
    }
    review
}

fn mounted(world: &World, review: &Value) -> Result<Vec<String>, Denial> {
    let pod = world.mutate(review)?;
    let mounts = pod["spec"]["containers"][1]["volumeMounts"].as_array().unwrap();
    let paths = mounts.iter().filter_map(|mount| {
        mount["mountPath"]
            .as_str()?
            .strip_prefix("/home/jovyan/datasets/")
    });
    let mut paths: Vec<String> = paths.map(str::to_owned).collect();
    paths.sort();
    Ok(paths)
}

#[test]
fn a_job_sees_what_it_names_and_everything_where_it_names_nothing() {
    let world = world();
    for (argv, env, seen) in [
        (&["python", "x.py"][..], None, &["cat", "uis"][..]),
        (&["python", "x.py"], Some("uis"), &["uis"]),
        (&["python", "x.py"], Some(" uis , cat,"), &["cat", "uis"]),
        (&["python", "x.py"], Some(""), &[]),
        (&["env", "LEASE_DATASETS=cat", "python"], Some("uis"), &["cat"]),
        (
            &["/usr/bin/env", "-u", "X", "A=b", "LEASE_DATASETS=uis", "python"],
            None,
            &["uis"],
        ),
        (&["env", "-i", "LEASE_DATASETS=", "python"], None, &[]),
        (
            &["env", "LEASE_DATASETS=uis", "LEASE_DATASETS=cat", "python"],
            None,
            &["cat"],
        ),
        (&["env", "python", "LEASE_DATASETS=cat"], Some("uis"), &["uis"]),
        (&["python", "LEASE_DATASETS=cat"], Some("uis"), &["uis"]),
        (&["env", "LEASE_DATASETS=uis,uis", "python"], None, &["uis"]),
    ] {
        assert_eq!(
            mounted(&world, &job(argv, env)).unwrap(),
            seen,
            "{argv:?} {env:?}"
        );
    }
    assert!(world.asked.borrow().is_empty(), "all of it from memory");
}

#[test]
fn of_two_equal_env_names_the_last_counts_as_for_the_kubelet() {
    let mut review = job(&["python"], Some("uis"));
    object(&mut review)["spec"]["containers"][1]["env"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "LEASE_DATASETS", "value": "cat"}));
    assert_eq!(mounted(&world(), &review).unwrap(), ["cat"]);
}

#[test]
fn a_dataset_that_is_not_leased_is_refused_with_the_command_that_leases_it() {
    let world = world();
    for name in ["other", "secret", "../uis", "UIS"] {
        let denial = refused(
            name,
            mounted(
                &world,
                &job(&["env", &format!("LEASE_DATASETS={name}"), "x"], None),
            ),
            "no_lease",
        );
        assert!(
            denial.message.contains(&format!("`leasehold lease {name}`")),
            "{denial}"
        );
    }
    assert_eq!(
        world.asked.borrow().len(),
        4,
        "before a no the broker is asked: a lease may be younger than the view"
    );
}

#[test]
fn a_released_and_an_expired_lease_mount_nothing() {
    let mut ending = lease(UIS, "uis", "alice");
    ending.state = machines::LeaseState::Ending.into();
    ending.end_cause = "released".into();
    let mut expired = lease(CAT, "cat", "alice");
    expired.expires_at_ms = NOW_MS;
    let world = World::with(vec![ending, expired]);
    assert!(mounted(&world, &job(&["x"], None)).unwrap().is_empty());
    let denial = refused(
        "released",
        mounted(&world, &job(&["x"], Some("uis"))),
        "lease_ended",
    );
    assert!(denial.message.contains("released"), "{denial}");
    let denial = refused(
        "expired",
        mounted(&world, &job(&["x"], Some("cat"))),
        "lease_ended",
    );
    assert!(denial.message.contains("expired"), "{denial}");
}

#[test]
fn a_lease_that_succeeds_an_ended_one_of_the_same_dataset_is_mounted() {
    let mut ending = lease(CAT, "uis", "alice");
    ending.state = machines::LeaseState::Ending.into();
    let mut successor = lease(UIS, "uis", "alice");
    successor.fencing_token = 2;
    let world = World::with(vec![successor, ending]);
    assert_eq!(mounted(&world, &job(&["x"], Some("uis"))).unwrap(), ["uis"]);
    assert_eq!(mounted(&world, &job(&["x"], None)).unwrap(), ["uis"]);
}

#[test]
fn what_cannot_be_mounted_stops_only_jobs_that_name_it() {
    let world = world();
    let mut failed = lease(UIS, "uis", "alice");
    failed.mount = machines::MountState::Failed.into();
    failed.mount_message = "the directory is missing on the node".into();
    world.apply(Change::Lease(failed));
    assert_eq!(mounted(&world, &job(&["x"], None)).unwrap(), ["cat"]);
    assert_eq!(mounted(&world, &job(&["x"], Some("cat"))).unwrap(), ["cat"]);
    let denial = refused(
        "failed",
        mounted(&world, &job(&["x"], Some("uis"))),
        "mount_failed",
    );
    assert!(
        denial.message.contains("the directory is missing on the node"),
        "{denial}"
    );
}

#[test]
fn a_volume_that_is_being_made_is_waited_for() {
    let world = world();
    let mut pending = lease(UIS, "uis", "alice");
    pending.mount = machines::MountState::Pending.into();
    world.apply(Change::Lease(pending.clone()));
    assert_eq!(
        refused(
            "named",
            mounted(&world, &job(&["x"], Some("uis"))),
            "mount_pending"
        )
        .reason
        .status(),
        429
    );
    assert_eq!(
        mounted(&world, &job(&["x"], None)).unwrap(),
        ["cat"],
        "an hour is long enough for who doesn't name it"
    );
    pending.granted_at_ms = NOW_MS - 5_000;
    world.apply(Change::Lease(pending));
    refused(
        "just granted",
        mounted(&world, &job(&["x"], None)),
        "mount_pending",
    );
    assert_eq!(mounted(&world, &job(&["x"], Some("cat"))).unwrap(), ["cat"]);
}

#[test]
fn the_pods_deadline_is_the_shortest_of_its_leases() {
    let world = world();
    let mut short = lease(CAT, "cat", "alice");
    short.max_ttl_seconds = 600;
    world.apply(Change::Lease(short));
    assert_eq!(
        world.mutate(&job(&["x"], None)).unwrap()["spec"]["activeDeadlineSeconds"],
        600
    );
    assert_eq!(
        world.mutate(&job(&["x"], Some("uis"))).unwrap()["spec"]["activeDeadlineSeconds"],
        86_400
    );
}
