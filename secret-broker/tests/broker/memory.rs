//! What is left in the broker's memory of what it decrypted: nothing, once the request is done.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use leasehold_broker_wire::machines as wire;
use serde_json::json;

use crate::fixture::{Fixture, eventually, registration};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// How often a text is in what a process can write of its memory: heap, stacks, data. None where nobody may look.
fn in_memory(pid: u32, text: &str) -> Option<usize> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let text = text.as_bytes();
    let mut buffer = vec![0; CHUNK + text.len()];
    let mut count = 0;
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ')?;
        if !rest.starts_with("rw") || rest.ends_with("[vvar]") {
            continue;
        }
        let (start, end) = range.split_once('-')?;
        let (mut at, end) = (
            u64::from_str_radix(start, 16).ok()?,
            u64::from_str_radix(end, 16).ok()?,
        );
        while at < end {
            // Past the chunk's end by less than the text's length, so that none is cut in two.
            let wanted = usize::try_from(end - at).ok()?.min(CHUNK + text.len() - 1);
            let read = memory.read_at(&mut buffer[..wanted], at).unwrap_or(0);
            let found = buffer[..read]
                .iter()
                .enumerate()
                .filter(|(_, byte)| **byte == text[0]);
            count += found
                .filter(|(place, _)| buffer[*place..read].starts_with(text))
                .count();
            at += CHUNK as u64;
        }
    }
    Some(count)
}

// T9 of docs/security/model.md.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_decrypted_is_left_in_memory_once_its_request_is_done() {
    let fixture = Fixture::start().await;
    let (steward, alice) = (fixture.person("steward"), fixture.person("alice"));
    let Some(known) = in_memory(fixture.pid(), "leasehold-provisioner") else {
        println!("SKIPPED: the broker's memory: this process may not read another's");
        return;
    };
    assert!(known > 0, "what must be there is found");
    let mut random = [0_u8; 24];
    getrandom::fill(&mut random).unwrap();
    let secret = hex::encode(random);
    let mut body = registration("texts");
    body["volume"]["credential"] = json!({ "password": secret });
    let accepted = fixture.call("POST", "/v1/datasets", &steward, Some(body)).await;
    assert_eq!(fixture.decided(&accepted, &steward).await["status"], "succeeded");
    let lease = fixture.lease("texts", &alice).await;
    for _ in 0..20 {
        let mut provisioner = fixture.machine("leasehold-provisioner").await;
        let lease_id = lease.clone();
        let opened = provisioner
            .open_volume(wire::OpenVolumeRequest { lease_id })
            .await;
        let volume = opened.unwrap().into_inner().volume;
        assert!(String::from_utf8(volume).unwrap().contains(&secret));
    }
    let rotated = fixture
        .call("POST", "/v1/datasets/texts/rotation", &steward, None)
        .await;
    assert_eq!(fixture.decided(&rotated, &steward).await["status"], "succeeded");
    // Connections end a moment after their clients.
    eventually(
        "the credential to be nowhere in the broker's memory",
        async || (in_memory(fixture.pid(), &secret) == Some(0)).then_some(()),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_dumps_no_core_and_shows_its_memory_to_no_other_process_of_its_user() {
    use std::os::unix::fs::MetadataExt as _;
    let fixture = Fixture::start().await;
    let of = |name: &str| format!("/proc/{}/{name}", fixture.pid());
    let limits = std::fs::read_to_string(of("limits")).unwrap();
    let cores = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"))
        .unwrap();
    let cores: Vec<_> = cores.split_whitespace().collect();
    assert_eq!(cores[..2], ["0", "0"], "{limits}");
    // The kernel gives what is in there of such a process to root, whoever runs it: to root's own this shows nothing.
    let status = std::fs::read_to_string(of("status")).unwrap();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    let uid: u32 = uids.split_whitespace().next().unwrap().parse().unwrap();
    let owner = std::fs::metadata(of("mem")).unwrap().uid();
    assert_eq!(owner, 0, "the process is of user {uid}");
}
