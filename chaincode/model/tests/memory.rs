//! The contract in memory against the model, and against itself.

use leasehold_chaincode::{Command, DatasetRef};
use leasehold_model::{Ledger, Tally, cases, play, plays, replay};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::RefCell;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[test]
fn the_contract_does_what_the_model_does_and_does_it_again() {
    let tally = RefCell::new(Tally::default());
    let mut runner = TestRunner::new(config(cases(120)));
    let played = runner.run(&plays(), |steps| {
        for ledger in [Ledger::None, Ledger::Embedded] {
            let mut tally = tally.borrow_mut();
            let once = play(&steps, ledger, &mut tally);
            let again = play(&steps, ledger, &mut Tally::default());
            assert_eq!(once, again, "the same commands lead to the same bytes");
            assert_eq!(
                replay(&once),
                once.state,
                "what was accepted leads there without what was refused"
            );
        }
        Ok(())
    });
    let tally = tally.into_inner();
    println!("{tally}");
    played.unwrap_or_else(|error| panic!("{error}"));
    tally.has_every_kind();
}

proptest! {
    #![proptest_config(config(cases(200)))]

    #[test]
    fn no_text_panics_the_reader_of_commands(text in ".{0,200}") {
        let _ = serde_json::from_str::<Command>(&text);
        let _ = DatasetRef::parse(&text);
    }
}
