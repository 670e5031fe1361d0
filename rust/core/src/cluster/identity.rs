//! Which cluster this is: the id that its brokers name.
//!
//! Brokers may be set up anew behind the same addresses, or a name may lead to another cluster's brokers from now on. A producer goes on
//! there, as kafka-clients do: its records are for whoever is behind the addresses, and those that wait would be lost. A consumer may
//! not: its positions, units and commits are about the records of one cluster. So it refuses at the door whatever names another id, each
//! connection before it carries anything and each metadata answer, and it stops ([`Cluster::until_another`]).
//!
//! Brokers that name no id are believed.
//!
//! [`Cluster::until_another`]: super::Cluster::until_another

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::config::BrokerAddress;
use crate::net::ConnectError;

/// The id of a cluster, and what was met instead of it.
#[derive(Debug)]
pub(super) struct Identity {
    /// Whether brokers of another cluster are refused.
    one: bool,
    known: Mutex<Option<Arc<str>>>,
    /// The first broker of another cluster that was refused.
    met: watch::Sender<Option<Arc<ConnectError>>>,
}

impl Identity {
    /// `one`: brokers of another cluster than the first are refused.
    pub(super) fn new(one: bool) -> Self {
        Self { one, known: Mutex::new(None), met: watch::Sender::new(None) }
    }

    /// Whether a new connection is to be asked of which cluster its broker is.
    pub(super) fn is_asked(&self) -> bool {
        self.one && self.known.lock().is_some()
    }

    /// A broker names its cluster. The first id stays, or the newest where another one is no fault.
    ///
    /// # Errors
    /// It is another one, and that is refused.
    pub(super) fn check(
        &self,
        id: Option<&Arc<str>>,
        address: &BrokerAddress,
    ) -> Result<(), Arc<ConnectError>> {
        let Some(id) = id else { return Ok(()) };
        let mut known = self.known.lock();
        let Some(ours) = known.as_ref().filter(|known| self.one && *known != id) else {
            *known = Some(Arc::clone(id));
            return Ok(());
        };
        let (address, theirs, ours) = (address.clone(), Arc::clone(id), Arc::clone(ours));
        let error = Arc::new(ConnectError::OtherCluster { address, theirs, ours });
        self.met.send_if_modified(|met| {
            let first = met.is_none();
            met.get_or_insert_with(|| Arc::clone(&error));
            first
        });
        Err(error)
    }

    /// Changes once, when a broker of another cluster was refused.
    pub(super) fn met(&self) -> watch::Receiver<Option<Arc<ConnectError>>> {
        self.met.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_stays_with_the_first_cluster_and_a_producer_goes_on_with_the_next() {
        let (a, b, address) = (Arc::from("a"), Arc::from("b"), BrokerAddress::new("h", 9092));
        let consumers = Identity::new(true);
        assert!(!consumers.is_asked(), "nothing is known to be compared");
        for id in [None, Some(&a), None, Some(&a)] {
            consumers.check(id, &address).unwrap();
        }
        assert!(consumers.is_asked() && consumers.met().borrow().is_none());
        let error = consumers.check(Some(&b), &address).unwrap_err();
        assert_eq!(
            error.to_string(),
            "h:9092 is of Kafka cluster b, and this consumer reads Kafka cluster a"
        );
        assert_eq!(*consumers.met().borrow(), Some(error));
        consumers.check(Some(&a), &address).unwrap();
        let producers = Identity::new(false);
        for id in [&a, &b, &a] {
            producers.check(Some(id), &address).unwrap();
        }
        assert!(!producers.is_asked() && producers.met().borrow().is_none());
    }
}
