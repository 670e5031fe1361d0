//! FindCoordinator: which broker keeps a group's offsets. Groups are spread over the brokers by their names.

use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

use super::serve::{Answer, throttle};
use super::{About, Call, Shared, broker_id, text};

pub(super) fn answer(shared: &Shared, call: Call, request: &FindCoordinatorRequest) -> Answer {
    let mut state = shared.state();
    let deed = state.ask(call, About::group(&request.key));
    let mut response = FindCoordinatorResponse::default()
        .with_error_code(deed.code)
        .with_throttle_time_ms(throttle(&[deed]))
        .with_node_id(broker_id(-1));
    if deed.code == 0 {
        let node = state.coordinator(&request.key);
        response.node_id = broker_id(node);
        (response.host, response.port) = (text("127.0.0.1"), state.ports[node as usize - 1].into());
    }
    Answer::new(&response, call, &[deed])
}
