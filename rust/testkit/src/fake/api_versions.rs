//! ApiVersions: what a fake broker speaks, which is what Kafka 2.4 spoke and topics by name.

use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::ApiVersion;

use super::serve::{Answer, throttle};
use super::{Api, Shared};

/// Number, oldest and newest version.
const SPOKEN: [(i16, i16, i16); 6] = [
    (Api::Produce as i16, 3, 9),
    (Api::Fetch as i16, 4, 11),
    (Api::ListOffsets as i16, 1, 6),
    (Api::Metadata as i16, 4, 9),
    (Api::ApiVersions as i16, 0, 3),
    (Api::InitProducerId as i16, 0, 4),
];

pub(super) fn answer(shared: &Shared, node: i32, version: i16) -> Answer {
    let deed = shared.state().ask(Api::ApiVersions, node, "", -1);
    let api =
        |(key, min, max)| ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max);
    let response = ApiVersionsResponse::default()
        .with_error_code(deed.code)
        .with_throttle_time_ms(throttle(&[deed]))
        .with_api_keys(SPOKEN.map(api).to_vec());
    Answer::new(&response, version, &[deed])
}
