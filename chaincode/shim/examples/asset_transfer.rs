//! Assets that have an owner and change hands: the smallest chaincode with something to lose.
//!
//! Start it with `CHAINCODE_SERVER_ADDRESS` and `CHAINCODE_ID` set (see the crate's `config`), then invoke `create id owner`,
//! `transfer id owner`, `read id`, `owned_by owner`, `history id`.

use fabric_shim::{
    Bytes, CallError, Chaincode, Config, EventError, KeyError, Response, Server, Stub, composite_key,
};
use tokio_util::sync::CancellationToken;

/// Assets by id, and an index of them by owner.
pub struct AssetTransfer;

/// Why a transaction is refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("there is no asset {0}")]
    Absent(String),
    #[error("asset {0} exists")]
    Exists(String),
    #[error("{function} does not take {given} arguments")]
    Arguments { function: String, given: usize },
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Event(#[from] EventError),
    #[error(transparent)]
    Call(#[from] CallError),
}

#[fabric_shim::async_trait]
impl Chaincode for AssetTransfer {
    async fn invoke(&self, stub: &Stub) -> Response {
        dispatch(stub).await.into()
    }
}

async fn dispatch(stub: &Stub) -> Result<Bytes, Refusal> {
    let parameters: Vec<String> = stub
        .parameters()
        .iter()
        .map(|parameter| String::from_utf8_lossy(parameter).into_owned())
        .collect();
    let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
    match (stub.function(), parameters.as_slice()) {
        ("create", [id, owner]) => create(stub, id, owner).await,
        ("transfer", [id, owner]) => transfer(stub, id, owner).await,
        ("read", [id]) => owner_of(stub, id).await,
        ("owned_by", [owner]) => owned_by(stub, owner).await,
        ("history", [id]) => history(stub, id).await,
        (function, given) => Err(Refusal::Arguments {
            function: function.to_owned(),
            given: given.len(),
        }),
    }
}

async fn create(stub: &Stub, id: &str, owner: &str) -> Result<Bytes, Refusal> {
    if stub.get_state(id).await?.is_some() {
        return Err(Refusal::Exists(id.to_owned()));
    }
    let mut writer = stub.writer();
    writer
        .put(id, owner.to_owned())?
        .put(&composite_key("owner", &[owner, id])?, "1")?;
    writer.flush().await?;
    stub.set_event("created", id.to_owned())?;
    Ok(Bytes::new())
}

async fn transfer(stub: &Stub, id: &str, owner: &str) -> Result<Bytes, Refusal> {
    let former = owner_of(stub, id).await?;
    let mut writer = stub.writer();
    writer
        .put(id, owner.to_owned())?
        .delete(&composite_key("owner", &[&String::from_utf8_lossy(&former), id])?)?
        .put(&composite_key("owner", &[owner, id])?, "1")?;
    writer.flush().await?;
    stub.set_event("transferred", id.to_owned())?;
    Ok(former)
}

async fn owner_of(stub: &Stub, id: &str) -> Result<Bytes, Refusal> {
    stub.get_state(id)
        .await?
        .ok_or_else(|| Refusal::Absent(id.to_owned()))
}

async fn owned_by(stub: &Stub, owner: &str) -> Result<Bytes, Refusal> {
    let mut ids = Vec::new();
    let mut rows = stub.composite_range("owner", &[owner]).await?;
    while let Some(row) = rows.next().await? {
        let (_, attributes) = fabric_shim::split_composite_key(&row.key)?;
        ids.extend(attributes.into_iter().nth(1));
    }
    Ok(ids.join("\n").into())
}

async fn history(stub: &Stub, id: &str) -> Result<Bytes, Refusal> {
    let rows = stub.history(id).await?.collect().await?;
    let lines: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {}", row.tx_id, String::from_utf8_lossy(&row.value)))
        .collect();
    Ok(lines.join("\n").into())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let shutdown = CancellationToken::new();
    let server = Server::new(AssetTransfer, Config::from_env()?).serve(shutdown.clone());
    let interrupted = async {
        let interrupt = tokio::signal::ctrl_c().await;
        shutdown.cancel();
        Ok(interrupt?)
    };
    let served = async { server.await.map_err(Box::<dyn std::error::Error>::from) };
    tokio::try_join!(served, interrupted)?;
    Ok(())
}
