//! Every component may be killed at any instant: each is, in each step of the main job.

use std::time::Duration;

use leasehold_tests::{
    TestResult,
    journey::{Component, Notebook},
    wait_for,
};

use crate::{
    flow::COUNT,
    stage::{Stage, on_stage},
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Time for a step, once everything that was killed runs again.
const STEP: Duration = Duration::from_secs(90);

#[test]
fn every_component_may_be_killed_in_every_step_and_the_step_still_ends_right() -> TestResult {
    on_stage("crashes", async |stage| {
        let grace = stage.person("grace").await?;
        grace.write("count.py", COUNT).await?;
        for round in 0..rounds() {
            for (number, component) in Component::ALL.into_iter().enumerate() {
                let name = format!("crash-{round}-{number}");
                life_of_a_dataset(stage, component, &name, &grace).await?;
            }
        }
        Ok(())
    })
}

/// One in `make test`; more by `LEASEHOLD_SOAK_ROUNDS`.
fn rounds() -> u32 {
    std::env::var("LEASEHOLD_SOAK_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(1)
}

async fn life_of_a_dataset(
    stage: &Stage,
    component: Component,
    name: &str,
    grace: &Notebook<'static>,
) -> TestResult {
    let path = stage.site.texts(name)?;
    // Register: it may be refused or cut off, but then nothing is half there, and doing it again is right.
    component.kill(stage.site).await?;
    wait_for(
        &format!("{component:?} killed: {name} to be registered"),
        STEP,
        async || {
            let registered = stage.steward.try_register(name, &path, "unused")?;
            let again = registered.stderr.contains("dataset_name_taken");
            Ok::<_, Failure>((registered.code == 0 || again).then_some(()))
        },
    )
    .await?;

    // Lease.
    component.kill(stage.site).await?;
    wait_for(
        &format!("{component:?} killed: {name} to be leased and ready"),
        STEP,
        async || {
            let leased = grace.run(&["leasehold", "lease", name, "--ttl", "1h"]).await?;
            if leased.code != 0 && !leased.stderr.contains("lease_conflict") {
                return Ok(None);
            }
            let lease = stage.lease(grace, name).await?;
            Ok::<_, Failure>((lease.state == "active" && lease.mount == "ready").then_some(()))
        },
    )
    .await?;
    let lease = stage.lease(grace, name).await?;
    grace.shell("leasehold skeleton sync --home \"$HOME\"").await?;

    // Spawn: another person's notebook comes up, or the hub says why not and it comes up when tried again.
    let newcomer = format!("newcomer-{name}");
    component.kill(stage.site).await?;
    let spawned = wait_for(
        &format!("{component:?} killed: {newcomer} to be spawned"),
        STEP * 2,
        async || Ok::<_, Failure>(Some(stage.person(&newcomer).await?)),
    )
    .await?;
    stage.hub.stop(&newcomer, &spawned).await?;

    // Run: submitting may fail with a clear error; what was accepted ends right.
    component.kill(stage.site).await?;
    let job = format!("env LEASE_DATASETS={name} python3 count.py {name}");
    let workflow = wait_for(
        &format!("{component:?} killed: a workflow to be accepted"),
        STEP,
        async || grace.start(&[&job]).await.map(Some),
    )
    .await?;
    let run = grace.finished(&workflow, STEP).await?;
    assert_eq!(run.phase, "Succeeded", "{component:?} killed: {:?}", run.messages);
    let count = grace.shell(&format!("cat {name}-count.txt")).await?;
    assert_eq!(count, "5", "{component:?} killed");

    // Release.
    component.kill(stage.site).await?;
    wait_for(
        &format!("{component:?} killed: {name} to be released"),
        STEP,
        async || {
            let released = grace.run(&["leasehold", "release", name]).await?;
            let over = released.code == 0
                || released.stderr.contains("not_active")
                || released.stderr.contains("not_found");
            Ok::<_, Failure>(over.then_some(()))
        },
    )
    .await?;
    stage.gone(&lease.id, STEP).await
}
