//! InitProducerId: every producer gets the same id, which is enough for brokers that do not check sequences.

use kafka_protocol::messages::{InitProducerIdResponse, ProducerId};

use super::serve::{Answer, throttle};
use super::{About, Call, Shared};

pub(super) fn answer(shared: &Shared, call: Call) -> Answer {
    let deed = shared.state().ask(call, About::WHOLE);
    let (id, epoch) = if deed.code == 0 { (4000, 0) } else { (-1, -1) };
    let response = InitProducerIdResponse::default()
        .with_error_code(deed.code)
        .with_throttle_time_ms(throttle(&[deed]))
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(epoch);
    Answer::new(&response, call, &[deed])
}
