//! Many at once who are ready to wait for a dataset that one has alone.

use super::*;
use leasehold_chaincode::{DatasetId, DatasetRef};

#[tokio::test]
async fn twelve_who_wait_for_an_exclusive_dataset_get_it_one_after_the_other() {
    let bench = Bench::new().await;
    race([&bench.ledger; 2], 12, 5).await;
}

#[tokio::test]
async fn a_hundred_who_wait_for_an_exclusive_dataset_get_it_one_after_the_other() {
    let bench = Bench::new().await;
    race([&bench.ledger; 2], 100, 60).await;
}

/// All ask at once: one is granted, as many as the owner lets wait stand in the line, the others are told that it is full. Then each
/// gives it back, and the first in the line has it, and nobody else.
pub(super) async fn race(ledgers: [&Ledger; 2], contenders: usize, most_waiting: u32) {
    let ledger = ledgers[0];
    let mut registration = register("texts");
    if let Command::RegisterDataset { policy, .. } = &mut registration {
        policy.most_waiting = most_waiting;
    }
    let registered = ledger.submit(submission("register", registration)).await.unwrap();
    let dataset = registered.events[0].dataset.clone().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..contenders {
        let ledger = ledgers[number % 2].clone();
        let mut asking = take("texts", &person(&format!("{number:02}")));
        if let Command::Lease { wait, .. } = &mut asking {
            *wait = true;
        }
        let submission = submission(&format!("race-{number}"), asking);
        tasks.spawn(async move { ledger.submit(submission).await });
    }
    let outcomes = soon("end of the race", tasks.join_all()).await;
    assert_eq!(outcomes.len(), contenders, "each has an answer");
    let (mut asked, mut turned_away) = (Vec::new(), 0);
    for outcome in outcomes {
        match outcome {
            Ok(committed) => asked.push(committed.events[0].lease.as_deref().unwrap().clone()),
            Err(SubmitError::Refused(Refusal::LineFull { waiting, .. })) => {
                assert_eq!(waiting, most_waiting);
                turned_away += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    asked.sort_by_key(|lease| lease.number);
    let states: Vec<_> = asked.iter().map(|lease| lease.state).collect();
    let waiting = usize::try_from(most_waiting).unwrap();
    let mut expected = vec![LeaseState::Waiting; waiting + 1];
    expected[0] = LeaseState::Active;
    assert_eq!(states, expected, "the first has it, those after it wait");
    assert_eq!(turned_away, contenders - 1 - waiting, "nobody is lost");
    for (turn, lease) in asked.iter().enumerate() {
        for ledger in ledgers {
            let (holders, line) = standing(ledger, &dataset).await;
            let token = u64::try_from(turn).unwrap() + 1;
            assert_eq!(holders, [(lease.id.to_string(), LeaseState::Active, token)]);
            let behind: Vec<_> = asked[turn + 1..]
                .iter()
                .map(|lease| lease.id.to_string())
                .collect();
            assert_eq!(line, behind, "first come, first served");
        }
        let ledger = ledgers[turn % 2];
        let (id, confirm) = (
            lease.id.as_str(),
            Command::ConfirmEnd {
                lease: lease.id.to_string(),
            },
        );
        let released = submission(&format!("release-{turn}"), release(id, lease.subject.as_str()));
        let released = ledger.submit(released).await.unwrap();
        assert_eq!(released.events.len(), 1, "nobody has it before it is given back");
        let confirmed = ledger
            .submit(submission(&format!("confirm-{turn}"), confirm))
            .await;
        let granted = confirmed.unwrap().events.len() - 1;
        assert_eq!(
            granted,
            usize::from(turn < waiting),
            "one successor, while somebody waits"
        );
    }
    let (holders, line) = standing(ledger, &dataset).await;
    assert!(holders.is_empty() && line.is_empty());
    let transactions = 2 + 1 + 3 * (waiting + 1);
    let verified = ledger.verify().await.unwrap();
    assert_eq!(verified.transactions, u64::try_from(transactions).ok());
}

type Holder = (String, LeaseState, u64);

/// Who has a dataset, and who waits for it.
async fn standing(ledger: &Ledger, dataset: &DatasetId) -> (Vec<Holder>, Vec<String>) {
    let holders = ledger.holders(dataset).await.unwrap();
    let holders = holders
        .iter()
        .map(|lease| (lease.id.to_string(), lease.state, lease.fencing_token()));
    let entry = ledger
        .dataset(&DatasetRef::Id(dataset.clone()))
        .await
        .unwrap()
        .unwrap();
    let line = entry.status.line.iter().map(|place| place.lease.to_string());
    (holders.collect(), line.collect())
}
