//! What the example does, on whatever ledger.

/// A ledger with the example's chaincode.
pub trait Assets {
    /// Commits a transaction; else what is said.
    async fn submit(&self, arguments: &[&str]) -> Result<(), String>;
    /// What the chaincode answers; else what is said.
    async fn evaluate(&self, arguments: &[&str]) -> Result<String, String>;
}

/// Assets are created, change hands and are found by their owners; what makes no sense is refused and changes nothing.
pub async fn assets_change_hands(assets: &impl Assets) {
    assets.submit(&["create", "a1", "alice"]).await.unwrap();
    assets.submit(&["create", "a2", "alice"]).await.unwrap();
    for (arguments, said) in [
        (&["create", "a1", "bob"][..], "asset a1 exists"),
        (&["transfer", "a3", "bob"], "there is no asset a3"),
        (&["create", "a3"], "create does not take 1 arguments"),
    ] {
        let refused = assets.submit(arguments).await.unwrap_err();
        assert!(refused.contains(said), "{refused}");
    }
    assert_eq!(assets.evaluate(&["read", "a1"]).await.unwrap(), "alice");
    assert_eq!(assets.evaluate(&["owned_by", "alice"]).await.unwrap(), "a1\na2");
    assets.submit(&["transfer", "a1", "bob"]).await.unwrap();
    assert_eq!(assets.evaluate(&["owned_by", "alice"]).await.unwrap(), "a2");
    assert_eq!(assets.evaluate(&["owned_by", "bob"]).await.unwrap(), "a1");
    let history = assets.evaluate(&["history", "a1"]).await.unwrap();
    let owners: Vec<_> = history
        .lines()
        .map(|line| line.split_once(' ').unwrap().1)
        .collect();
    assert_eq!(owners, ["bob", "alice"], "the newest first");
}
