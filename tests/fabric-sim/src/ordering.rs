//! The simulated ordering service: a queue that is cut into blocks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::ledger::Transaction;
use crate::network::Network;

/// What gateways have prepared, and the way to the queue.
#[derive(Default)]
pub(crate) struct Ordered {
    /// By the payload that the client signs.
    prepared: Mutex<HashMap<Bytes, Transaction>>,
    queue: Mutex<Option<mpsc::UnboundedSender<Transaction>>>,
    down: AtomicBool,
}

impl Ordered {
    pub(crate) fn prepare(&self, payload: Bytes, transaction: Transaction) {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        prepared.insert(payload, transaction);
    }

    pub(crate) fn prepared(&self, payload: &Bytes) -> Option<Transaction> {
        let prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        prepared.get(payload).cloned()
    }

    /// Whether it took the transaction.
    pub(crate) fn take(&self, transaction: Transaction) -> bool {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        !self.down.load(Ordering::Relaxed)
            && queue
                .as_ref()
                .is_some_and(|queue| queue.send(transaction).is_ok())
    }
}

impl Network {
    /// Starts the ordering service: a block is cut this long after its first transaction came. Once for a network.
    pub fn order(self: &Arc<Self>, batch_timeout: Duration) {
        let (queue, mut taken) = mpsc::unbounded_channel();
        *self.ordering.queue.lock().unwrap_or_else(PoisonError::into_inner) = Some(queue);
        let network: Weak<Self> = Arc::downgrade(self);
        self.spawn(async move {
            while let Some(first) = taken.recv().await {
                tokio::time::sleep(batch_timeout).await;
                let mut block = vec![first];
                block.extend(std::iter::from_fn(|| taken.try_recv().ok()));
                let Some(network) = network.upgrade() else {
                    return;
                };
                network.commit(block);
            }
        });
    }

    /// Has the ordering service be gone, or back. What it has taken is not lost.
    pub fn set_orderer_down(&self, down: bool) {
        self.ordering.down.store(down, Ordering::Relaxed);
    }
}
