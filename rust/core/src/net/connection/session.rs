//! Saying again who we are, before the broker stops believing it (KIP-368).
//!
//! A broker may set an end to a session (`connections.max.reauth.ms`, or the end of a password). After it the broker closes the
//! connection at the next request. Before it the same exchange as in the beginning is repeated on the same connection, and
//! nothing else may be sent in between.
//!
//! So the renewal takes all places for requests: those under way are answered first, those that come wait, in their order, for
//! the moments it takes. Nothing is in flight, so nothing is in doubt should the broker refuse. Like kafka-clients it begins
//! between 85 and 95 percent of the session's life, so that a thousand clients do not come at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::Shared;
use crate::config::BrokerAddress;
use crate::log_rate;
use crate::net::error::{CloseReason, ConnectError};
use crate::net::random;
use crate::net::sasl::{self, Ask, Credentials};
use crate::wire::Request;

/// What a renewal needs to know.
pub(super) struct Session {
    pub(super) address: BrokerAddress,
    pub(super) user: Arc<Credentials>,
    /// Longest wait for each of the broker's answers.
    pub(super) within: Duration,
    pub(super) max_in_flight: usize,
}

/// When a session that lives so long is renewed.
fn renew_after(lifetime: Duration, random: u64) -> Duration {
    // 16 random bits are enough.
    let percent = 85.0 + 10.0 * f64::from(random as u16) / f64::from(u16::MAX);
    lifetime.mul_f64(percent / 100.0)
}

impl Session {
    /// The task that renews it, until the connection ends.
    pub(super) async fn keep(self, shared: Arc<Shared>, mut lifetime: Duration) {
        let stop = shared.stop.notified();
        tokio::pin!(stop);
        stop.as_mut().enable();
        if shared.state.lock().closed.is_some() {
            return;
        }
        loop {
            let renewed = async {
                sleep(renew_after(lifetime, random())).await;
                self.renew(&shared).await
            };
            let renewed = tokio::select! {
                biased;
                () = &mut stop => return,
                renewed = renewed => renewed,
            };
            match renewed {
                Some(next) => lifetime = next,
                None => return,
            }
        }
    }

    /// How long the next session lives; `None` when it has no end, or the connection has ended.
    async fn renew(&self, shared: &Arc<Shared>) -> Option<Duration> {
        let all = u32::try_from(self.max_in_flight).unwrap_or(u32::MAX);
        // Held until it is known how it ended: who waits must not get a connection that the broker has refused.
        let _room = shared.room.clone().acquire_many_owned(all).await.ok()?;
        tracing::debug!(target: "kafkafast.net", "Renewing the session with {}", self.address);
        match sasl::authenticate(&mut Renewal { session: self, shared }, &self.address, &self.user).await {
            Ok(next) => next,
            // Nothing more is sent, so it could not be renewed. The broker reads what was sent before the session's end, or closes.
            Err(_) if shared.state.lock().finishing => None,
            Err(error) => {
                if let Some(more) = log_rate::due(format_args!("session {} {error}", self.address)) {
                    tracing::warn!(target: "kafkafast.net", "The session could not be renewed: {error}{more}");
                }
                shared.close(CloseReason::Session(error.to_string()));
                None
            }
        }
    }
}

struct Renewal<'a> {
    session: &'a Session,
    shared: &'a Arc<Shared>,
}

impl Ask for Renewal<'_> {
    async fn ask<R: Request>(&mut self, request: &R) -> Result<R::Response, ConnectError> {
        let asked = async {
            let version = self.shared.speak(request)?;
            self.shared.start(request, version, None)?.answer(self.session.within).await
        };
        asked.await.map_err(|error| {
            let address = self.session.address.clone();
            ConnectError::Unreachable { address, reason: error.to_string() }
        })
    }
}

#[cfg(test)]
#[tokio::test]
async fn a_connection_that_takes_leave_is_not_ended_by_its_session() {
    let fake = kafka_fast_testkit::fake::FakeKafka::start(1).await;
    let mut conf = crate::config::Config::with_bootstrap(&fake.address()).unwrap();
    conf.set("sasl.mechanism", "PLAIN").unwrap();
    let (address, within) = (conf.brokers[0].clone(), Duration::from_secs(20));
    let connection =
        super::Connection::connect(&address, &super::ConnectionOptions::default()).await.unwrap();
    let user = Arc::new(Credentials::new(&conf.sasl).unwrap());
    let session = Session { address, user, within, max_in_flight: 1 };
    connection.finish();
    assert_eq!(session.renew(&connection.shared).await, None);
    connection.ended().await;
    assert_eq!(connection.end().unwrap().0, CloseReason::Peer);
}

#[test]
fn a_session_is_renewed_before_its_end() {
    let of = |random| renew_after(Duration::from_secs(1000), random).as_secs_f64().round() as u64;
    assert_eq!((of(0), of(u64::MAX)), (850, 950));
}
